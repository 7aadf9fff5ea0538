import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chartDrawn, farmOf, overflow, SIZES, someAlert, visitLoggedIn } from './farm.mjs';

/** @typedef {import('playwright-core').Locator} Locator */
/** @typedef {import('playwright-core').Page} Page */

/**
 * How many of a chart's pixels have a colour of the style sheet, or nearly.
 * @param {Locator} chart
 * @param {string} colour
 */
function pixels(chart, colour) {
  return chart.locator('canvas').evaluate((element, name) => {
    const canvas = /** @type {HTMLCanvasElement} */ (element);
    const context = canvas.getContext('2d');
    const hex = getComputedStyle(canvas).getPropertyValue(`--${name}`).trim();
    const wanted = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const { data } = /** @type {CanvasRenderingContext2D} */ (context).getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] === 255 && wanted.every((value, k) => Math.abs(value - (data[i + k] ?? 0)) < 12)) found += 1;
    }
    return found;
  }, colour);
}

/** A station of the farm that is heard. @param {Page} page @param {string} farm */
async function openStation(page, farm, query = '') {
  await page.goto(`/farms/${farm}/stations`);
  const link = page.locator('[data-station] th a').first();
  const path = await link.getAttribute('href');
  await page.goto(`${path}${query}`);
  return chartDrawn(page);
}

for (const [name, size] of Object.entries(SIZES)) {
  test(`a station's charts have lines (${name})`, async () => {
    await visitLoggedIn({ size }, async ({ page, ask }) => {
      const chart = await openStation(page, await farmOf(ask), '?span=day');
      for (const colour of ['depth-1', 'depth-2', 'depth-3']) {
        await chart.evaluate((element) => element.scrollIntoView());
        assert.ok((await pixels(chart, colour)) > 10, `${colour} is drawn`);
      }
      for (const quantity of ['rain', 'soil_temperature', 'air_temperature', 'relative_humidity', 'wind_speed', 'solar_radiation', 'battery', 'rssi']) {
        await page.locator(`[data-chart=${quantity}] canvas`).waitFor();
      }
      assert.ok((await pixels(page.locator('[data-chart=air_temperature]'), 'warm')) > 10, 'air temperature is drawn');
      assert.equal(await overflow(page), 0);
    });
  });
}

test('all charts share one cursor, and the legend has the values under it', async () => {
  await visitLoggedIn({}, async ({ page, ask }) => {
    const chart = await openStation(page, await farmOf(ask), '?span=day');
    const over = chart.locator('.u-over');
    const box = await over.boundingBox();
    assert.ok(box);
    await over.hover({ position: { x: box.width * 0.98, y: 20 } });
    await page.waitForFunction(() => {
      const lines = [...document.querySelectorAll('[data-chart] .u-cursor-x')].map((line) => Math.round(line.getBoundingClientRect().left));
      return lines.length > 5 && new Set(lines).size === 1 && (lines[0] ?? 0) > 0;
    });
    for (const value of await chart.locator('figcaption b').allInnerTexts()) assert.match(value, /^(0\.\d{3}|–)$/);
  });
});

test('the keyboard moves the cursor', async () => {
  await visitLoggedIn({}, async ({ page, ask }) => {
    const chart = await openStation(page, await farmOf(ask), '?span=day');
    const cursor = page.getByRole('slider', { name: 'Time under the cursor' });
    await cursor.focus();
    await page.keyboard.press('Home');
    await page.waitForFunction(() => {
      const line = document.querySelector('[data-chart=soil_moisture] .u-cursor-x');
      return line !== null && !line.classList.contains('u-off');
    });
    assert.match((await cursor.getAttribute('aria-valuetext')) ?? '', /\d\d:\d\d$/);
    assert.match(await chart.locator('figcaption b').first().innerText(), /^0\.\d{3}$/);
  });
});

test('charts go on by themselves', async () => {
  await visitLoggedIn({}, async ({ page, ask }) => {
    const chart = await openStation(page, await farmOf(ask));
    const before = Number(await chart.getAttribute('data-last'));
    await page.evaluate(() => document.body.setAttribute('data-not-reloaded', ''));
    await page.waitForFunction((was) => Number(document.querySelector('[data-chart=soil_moisture]')?.getAttribute('data-last')) > was, before);
    assert.equal(await page.locator('body[data-not-reloaded]').count(), 1);
  });
});

test('an alert is marked on its chart, and listed', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page, go, ask } = visit;
    const farm = await farmOf(ask);
    await go(`/farms/${farm}/alerts?state=all`);
    const alert = await someAlert(visit, farm);
    const row = page.locator(`[data-alert="${alert.id}"]`);
    await row.waitFor();
    await row.getByRole('link').click();

    await page.getByRole('heading', { level: 1, name: alert.station, exact: true }).waitFor();
    const quantity = alert.channel.replace(/_\d+cm$/, '');
    const chart = await chartDrawn(page, quantity);
    await page.waitForFunction((name) => Number(document.querySelector(`[data-chart=${name}]`)?.getAttribute('data-marks')) > 0, quantity);
    const tone = alert.kind === 'anomaly' ? 'warning' : 'fault';
    const height = await chart.locator('.u-over').evaluate((element) => element.clientHeight);
    assert.ok((await pixels(chart, tone)) >= height, `a line of ${tone} stands where ${alert.id} was opened`);
    await page.locator('aside').getByText(/Open alert|Closed alerts shown/).first().waitFor();
  });
});

test('day, week, month and season are drawn, and what is drawn can be had as CSV', async () => {
  await visitLoggedIn({}, async ({ page, ask }) => {
    await openStation(page, await farmOf(ask));
    for (const span of ['Day', 'Month', 'Season', 'Week']) {
      await page.getByRole('button', { name: span, exact: true }).click();
      await page.locator(`[data-testid=charts][data-span=${span.toLowerCase()}][data-loaded=true]`).waitFor();
    }
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: /CSV/ }).click()]);
    assert.match(download.suggestedFilename(), /_week_.*\.csv$/);
    /** @type {Buffer[]} */
    const chunks = [];
    for await (const chunk of await download.createReadStream()) chunks.push(chunk);
    const [header, first] = Buffer.concat(chunks).toString().split('\r\n');
    assert.equal(header, 'time,station,channel,unit,mean,min,max,count,rejected,rejected_min,rejected_max,reasons');
    assert.match(first ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z,[a-z0-9_-]+,[a-z0-9_]+,/);
  });
});

test('a station that is not there is said not to be there', async () => {
  await visitLoggedIn({ expected: /404 / }, async ({ page, go, ask }) => {
    await go(`/farms/${await farmOf(ask)}/stations/nowhere`);
    await page.getByRole('alert').filter({ hasText: 'There is no station nowhere' }).waitFor();
  });
});
