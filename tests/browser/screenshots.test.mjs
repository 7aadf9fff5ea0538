import { join } from 'node:path';
import { test } from 'node:test';
import { chartDrawn, farmOf, openFarm, SIZES, someAlert, visitLoggedIn } from './farm.mjs';
import { BASE, NAME } from './model.mjs';

/** Where to put them. */
const directory = process.env.SCREENSHOTS;

for (const scheme of /** @type {const} */ (['light', 'dark'])) {
  for (const [name, size] of Object.entries(SIZES)) {
    test(`pictures of the pages (${scheme}, ${name})`, { skip: directory === undefined && 'SCREENSHOTS names no directory' }, async () => {
      await visitLoggedIn({ size, scheme }, async (visit) => {
        const { page, go, ask } = visit;
        const farm = await farmOf(ask);
        const take = (/** @type {string} */ what) => page.screenshot({ path: join(directory ?? '.', `${what}-${name}-${scheme}.png`) });
        await openFarm(visit);
        await page.locator('[data-station] svg path[d^=M]').first().waitFor({ state: 'attached' });
        const alert = await someAlert(visit, farm);
        await take('farm');
        await go(`/farms/${farm}/stations/${alert.station}`);
        await chartDrawn(page);
        await take('station');
        for (const path of ['alerts?state=all', 'models', `models/${NAME}/${BASE}`, 'gateways']) {
          await go(`/farms/${farm}/${path}`);
          await page.locator('main .card').first().waitFor();
          await page.locator('[data-testid=waiting]').waitFor({ state: 'detached' });
          await take(path.replace(/\?.*/, '').replaceAll('/', '-'));
        }
      });
    });
  }
}
