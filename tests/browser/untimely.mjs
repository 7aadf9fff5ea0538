/** A station that came to the farm after the others, with a clock that is years behind: the farm must have it before this runs. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { farmOf, visitLoggedIn } from './farm.mjs';

test('a station whose readings were all rejected for their time is listed, and its page says why', async () => {
  await visitLoggedIn({}, async ({ page, go, ask }) => {
    const farm = await farmOf(ask);
    await go(`/farms/${farm}/stations`);
    await page.locator('[data-station=zz-clock]').getByRole('link', { name: 'zz-clock' }).click();
    await page.getByRole('heading', { level: 1, name: 'zz-clock', exact: true }).waitFor();
    const fact = page.locator('dl > div').filter({ hasText: 'Not counted, for their time' });
    assert.match(await fact.innerText(), /1 (of a wrong clock|too late)/);
  });
});
