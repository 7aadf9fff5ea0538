/** Which page is shown: the browser's history as state. */

import { type Route, pathOf, routeOf } from './route';

class Router {
  route = $state.raw<Route>(routeOf(location));

  constructor() {
    addEventListener('popstate', () => {
      this.route = routeOf(location);
    });
    document.addEventListener('click', (event) => this.follow(event));
  }

  /** Shows a page. `replace` leaves no way back to the one before, as for a choice within a page. */
  go(route: Route, { replace = false } = {}): void {
    const path = pathOf(route);
    if (replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
    const samePage = this.route.page === route.page;
    this.route = route;
    if (!replace && !samePage) scrollTo(0, 0);
  }

  /** Links to our own pages are followed without loading anew. */
  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (link === null || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    const route = routeOf(new URL(link.href));
    if (route.page === 'unknown') return;
    event.preventDefault();
    this.go(route);
  }
}

export const router = new Router();
