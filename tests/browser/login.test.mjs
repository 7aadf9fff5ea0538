import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FIELDS, logIn, NOT_LOGGED_IN, SIZES, visit, visitLoggedIn } from './farm.mjs';

for (const [name, size] of Object.entries(SIZES)) {
  test(`a wrong password says so, the right one leads to the farm (${name})`, async () => {
    await visit({ size, expected: NOT_LOGGED_IN }, async ({ page, go }) => {
      await go('/');
      await logIn(page, { wrong: true });
      await page.getByRole('alert').filter({ hasText: 'The email or the password is wrong.' }).waitFor();
      await logIn(page);
      await page.locator('[data-testid=field]').nth(FIELDS - 1).waitFor();
      assert.match(new URL(page.url()).pathname, /^\/farms\/[^/]+$/);
    });
  });
}

test('who is not logged in sees no farm, and after logging in the page that was asked for', async () => {
  await visit({ expected: NOT_LOGGED_IN }, async ({ page, go }) => {
    await go('/farms/somebody-elses/gateways');
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await logIn(page);
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
    await page.getByRole('link', { name: 'To your farm' }).click();
    await page.getByRole('link', { name: 'Gateways' }).click();
    const gateways = page.url();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await logIn(page);
    await page.getByRole('heading', { name: 'Gateways' }).waitFor();
    assert.equal(page.url(), gateways);
  });
});

test('a session that ends elsewhere leads to the login, and says why', async () => {
  await visitLoggedIn({ expected: /401 / }, async ({ page, go }) => {
    await go('/');
    await page.locator('[data-testid=field]').nth(FIELDS - 1).waitFor();
    await page.context().clearCookies();
    await page.getByRole('link', { name: 'Alerts' }).click();
    await page.getByText('Your session has ended.').waitFor();
  });
});
