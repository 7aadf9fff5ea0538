import assert from 'node:assert/strict';
import { test } from 'node:test';
import { farmOf, FIELDS, openFarm, overflow, SIZES, STATIONS, visitLoggedIn } from './farm.mjs';

const HOUR_MS = 3_600_000;

/** A change that is told of is seen before the page would ask by itself. */
const UNASKED_MS = 25_000;

for (const [name, size] of Object.entries(SIZES)) {
  test(`the farm at a glance has its fields and stations with values (${name})`, async () => {
    await visitLoggedIn({ size }, async (visit) => {
      const { page } = visit;
      await openFarm(visit);
      const fields = page.locator('[data-testid=field]');
      assert.equal(await fields.count(), FIELDS);
      for (const text of await fields.allInnerTexts()) assert.match(text, /\b0\.\d{3}\b/);
      assert.equal(await page.locator('[data-station]').count(), STATIONS);
      assert.match(await page.getByRole('heading', { level: 1 }).innerText(), /^Good (morning|afternoon|evening)$/);
      assert.equal(await overflow(page), 0);
    });
  });
}

test('ages are those of farm time, and recent', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page, ask } = visit;
    await openFarm(visit);
    const { now, stations } = await ask(`/api/v1/farms/${await farmOf(ask)}`);
    const recent = stations.filter((/** @type {any} */ s) => Date.parse(now) - Date.parse(s.last_heard) < 3 * HOUR_MS);
    // Some stations may be silent on purpose.
    assert.ok(recent.length >= STATIONS - 4, `${recent.length} of ${STATIONS} stations were heard in the last three hours`);
    const shown = await page.locator('[data-heard]').allInnerTexts();
    const minutes = shown.filter((age) => /^(now|\d+ min|[12] h( \d+ min)?)$/.test(age.trim()));
    assert.ok(minutes.length >= STATIONS - 4, `ages: ${shown.join(', ')}`);
  });
});

test('values change while one looks, without a reload', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page } = visit;
    await openFarm(visit);
    await page.locator('[data-stream=live]').waitFor();
    const until = page.locator('[data-testid=data-until]');
    const before = { until: await until.getAttribute('datetime'), values: await values() };
    await page.evaluate(() => document.body.setAttribute('data-not-reloaded', ''));
    await page.waitForFunction(
      ([was, values]) =>
        document.querySelector('[data-testid=data-until]')?.getAttribute('datetime') !== was &&
        [...document.querySelectorAll('[data-quantity=soil_moisture]')].map((cell) => cell.textContent?.trim()).join() !== values,
      /** @type {const} */ ([before.until, before.values]),
      { timeout: UNASKED_MS },
    );
    assert.ok(Date.parse((await until.getAttribute('datetime')) ?? '') > Date.parse(before.until ?? ''));
    assert.equal(await page.locator('body[data-not-reloaded]').count(), 1);

    function values() {
      return page.locator('[data-quantity=soil_moisture]').evaluateAll((cells) => cells.map((cell) => cell.textContent?.trim()).join());
    }
  });
});

test('what needs attention leads to its evidence', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page } = visit;
    await openFarm(visit);
    const link = page.locator('[data-testid=attention] a[href*="/stations/"]').first();
    await link.waitFor();
    const href = await link.getAttribute('href');
    // The list may be in a new order a moment later; the address says what was meant.
    await page.goto(href ?? '');
    const station = decodeURIComponent(new URL(page.url()).pathname.split('/').at(-1) ?? '');
    await page.getByRole('heading', { level: 1, name: station, exact: true }).waitFor();
  });
});

test('the table is ordered by what one chooses', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page } = visit;
    await openFarm(visit);
    await page.getByRole('button', { name: 'Sort by soil moisture' }).click();
    await page.locator('th[aria-sort=ascending]').filter({ hasText: 'm³/m³' }).waitFor();
    const values = await page.locator('[data-quantity=soil_moisture]').evaluateAll((cells) => cells.map((cell) => parseFloat(cell.textContent ?? '')));
    assert.deepEqual(values, values.toSorted((a, b) => a - b));
  });
});

test('the gateway says how it is', async () => {
  await visitLoggedIn({}, async ({ page, go, ask }) => {
    const farm = await farmOf(ask);
    await go(`/farms/${farm}/gateways`);
    const gateway = page.locator('[data-gateway]');
    await gateway.getByText('Stations connected').waitFor();
    await gateway.getByText(`of ${STATIONS}`).waitFor();
    await gateway.locator('[data-model][data-active]').first().waitFor();
  });
});
