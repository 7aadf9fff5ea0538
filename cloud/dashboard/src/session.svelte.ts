/** Who is logged in. */

import { api, dataOf, Failure, failureOf, type Me } from './client';

class Session {
  /** Undefined until it is known; null when nobody is logged in. */
  me = $state.raw<Me | null | undefined>(undefined);
  failure = $state.raw<Failure | null>(null);
  /** Whether somebody was logged in until the session ended by itself. */
  expired = $state(false);

  async load(): Promise<void> {
    this.failure = null;
    try {
      this.me = await dataOf(api.GET('/api/v1/me'));
    } catch (error) {
      const failure = failureOf(error);
      if (failure.status === 401) this.me = null;
      else this.failure = failure;
    }
  }

  /** @throws {Failure} when the server refuses or does not answer. */
  async login(email: string, password: string): Promise<void> {
    await dataOf(api.POST('/api/v1/login', { body: { email, password } }));
    this.expired = false;
    await this.load();
    if (this.failure !== null) throw this.failure;
  }

  async logout(): Promise<void> {
    try {
      await dataOf(api.POST('/api/v1/logout'));
    } catch (error) {
      // A session that is no longer known is as good as closed; otherwise the cookie is still valid, and saying so matters.
      if (failureOf(error).status !== 401) throw error;
    }
    this.me = null;
  }

  /** To be called with whatever a request failed with. */
  noticed(failure: Failure): void {
    if (failure.status !== 401 || !this.me) return;
    this.expired = true;
    this.me = null;
  }
}

export const session = new Session();
