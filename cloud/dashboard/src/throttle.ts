/**
 * Does something again and again, never more often than each so many milliseconds, never twice at once, and always once
 * more after the last request.
 */
export class Throttle {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private running = false;
  private again = false;
  private lastStart = Number.NEGATIVE_INFINITY;
  private stopped = false;

  constructor(
    private readonly intervalMs: number,
    private readonly action: () => Promise<void>,
  ) {}

  request(): void {
    if (this.stopped || this.timer !== null) return;
    if (this.running) {
      this.again = true;
      return;
    }
    const wait = this.lastStart + this.intervalMs - Date.now();
    if (wait > 0) {
      this.timer = setTimeout(() => {
        this.timer = null;
        void this.run();
      }, wait);
    } else {
      void this.run();
    }
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private async run(): Promise<void> {
    this.running = true;
    this.lastStart = Date.now();
    try {
      await this.action();
    } finally {
      this.running = false;
      if (this.again) {
        this.again = false;
        this.request();
      }
    }
  }
}
