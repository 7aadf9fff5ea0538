import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import { chartDrawn, credentials, farmOf, NOT_LOGGED_IN, openFarm, overflow, SIZES, visit, visitLoggedIn } from './farm.mjs';
import { BASE, NAME } from './model.mjs';

/** @typedef {import('playwright-core').Page} Page */

/** Serious mistakes for who does not see, or not well. @param {Page} page */
async function mistakes(page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations
    .filter((violation) => violation.impact === 'serious' || violation.impact === 'critical')
    .map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(' ')}`);
}

for (const scheme of /** @type {const} */ (['light', 'dark'])) {
  for (const [name, size] of Object.entries(SIZES)) {
    test(`every page can be read and fits (${scheme}, ${name})`, async () => {
      await visit({ size, scheme, expected: NOT_LOGGED_IN }, async ({ page, go }) => {
        await go('/');
        await page.getByRole('heading', { name: 'Log in' }).waitFor();
        assert.deepEqual(await mistakes(page), []);
        assert.equal(await overflow(page), 0);
      });
      await visitLoggedIn({ size, scheme }, async (visited) => {
        const { page, go, ask } = visited;
        await openFarm(visited);
        assert.deepEqual(await mistakes(page), [], 'farm');

        const farm = await farmOf(ask);
        const station = await page.locator('[data-station]').first().getAttribute('data-station');
        for (const path of ['stations', `stations/${station}`, 'alerts?state=all', 'models', `models/${NAME}/${BASE}`, 'gateways']) {
          await go(`/farms/${farm}/${path}`);
          await page.getByRole('heading', { level: 1 }).waitFor();
          if (path.startsWith('stations/')) await chartDrawn(page);
          else await page.locator('main .card').first().waitFor();
          await page.locator('[data-testid=waiting]').waitFor({ state: 'detached' });
          assert.deepEqual(await mistakes(page), [], path);
          assert.equal(await overflow(page), 0, path);
        }

        await go(`/farms/${farm}/models`);
        await page.getByRole('button', { name: 'Push a version' }).click();
        await page.getByRole('button', { name: 'Push to the registry' }).click();
        await page.getByRole('alert').getByText('manifest.toml is missing').waitFor();
        assert.deepEqual(await mistakes(page), [], 'pushing');
        assert.equal(await overflow(page), 0, 'pushing');
      });
    });
  }
}

test('the keyboard alone leads from the login to a station', async () => {
  await visit({ expected: NOT_LOGGED_IN }, async ({ page, go }) => {
    await go('/');
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.type(credentials.email);
    await page.keyboard.press('Tab');
    await page.keyboard.type(credentials.password);
    await page.keyboard.press('Enter');

    await page.locator('[data-station] th a').first().waitFor();
    await tabTo(page, '[data-station] th a');
    const outline = await page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.activeElement)).outlineStyle);
    assert.notEqual(outline, 'none', 'one sees where one is');
    await page.keyboard.press('Enter');
    await chartDrawn(page);
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'content', 'one goes on at the new page');

    await tabTo(page, 'button[aria-pressed]');
    await page.keyboard.press('Enter');
    await page.locator('[data-testid=charts][data-span=day][data-loaded=true]').waitFor();
  });
});

/** More than there are on the page before the first station. */
const MOST_TABS = 80;

/** Presses Tab until what is wanted has the focus. @param {Page} page @param {string} selector */
async function tabTo(page, selector) {
  for (let i = 0; i < MOST_TABS; i += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return;
  }
  assert.fail(`${selector} cannot be reached with the keyboard`);
}
