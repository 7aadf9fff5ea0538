/** A running farm in a real browser: what the tests share. */

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { chromium } from 'playwright-core';

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {{ width: number, height: number }} Size */

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  assert.ok(value, `${name} must be set: these tests run against a farm that is up, with simulated faults`);
  return value;
}

const url = required('TILTH_URL').replace(/\/$/, '');
const email = required('TILTH_EMAIL');
const password = required('TILTH_PASSWORD');

/** What a person's screen is. @type {Record<'desktop' | 'phone', Size>} */
export const SIZES = { desktop: { width: 1440, height: 1020 }, phone: { width: 390, height: 844 } };

/** A farm that has just been started has its first values after seconds, and its first alerts after two simulated hours and more. */
export const PATIENCE_MS = 180_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
after(() => browser.close());

/**
 * @typedef {object} Visit
 * @property {Page} page
 * @property {(path: string) => Promise<unknown>} go Opens a path of the dashboard.
 * @property {(path: string) => Promise<any>} ask What the API answers to the person in the browser.
 */

/**
 * Does something in a fresh browser window, and sees to it that the page neither complained nor asked for what is not there.
 *
 * @param {{ size?: Size, scheme?: 'light' | 'dark', expected?: RegExp }} window `expected` are failures that belong to the test.
 * @param {(visit: Visit) => Promise<void>} action
 */
export async function visit({ size = SIZES.desktop, scheme = 'light', expected }, action) {
  const context = await browser.newContext({ viewport: size, colorScheme: scheme, baseURL: url });
  context.setDefaultTimeout(PATIENCE_MS);
  try {
    const page = await context.newPage();
    const problems = problemsOf(page);
    const go = (/** @type {string} */ path) => page.goto(path);
    const ask = async (/** @type {string} */ path) => {
      const answer = await context.request.get(path);
      assert.equal(answer.status(), 200, `${path}: ${await answer.text()}`);
      return answer.json();
    };
    await action({ page, go, ask });
    assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
  } finally {
    await context.close();
  }
}

/** Who is not logged in is told so once, when the page asks who they are; the browser notes that as an error. */
export const NOT_LOGGED_IN = /401 .*\/api\/v1\/(me|login)$/;

/** The same as {@link visit}, logged in. @type {typeof visit} */
export function visitLoggedIn(window, action) {
  return visit(window, async (visited) => {
    const answer = await visited.page.request.post('/api/v1/login', { data: { email, password } });
    assert.equal(answer.status(), 204, `login: ${await answer.text()}`);
    await action(visited);
  });
}

/**
 * Fills in the login form.
 * @param {Page} page
 */
export async function logIn(page, { wrong = false } = {}) {
  await page.getByLabel('Email').fill(email);
  await page.getByLabel('Password').fill(wrong ? `${password}-not` : password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

export const credentials = { email, password };

/** @param {Page} page */
function problemsOf(page) {
  /** @type {string[]} */
  const problems = [];
  page.on('console', (message) => {
    // A refused request is told of below, with its status and address.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`error: ${error.stack ?? error.message}`));
  page.on('response', (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} ${response.request().method()} ${response.url()}`);
  });
  page.on('requestfailed', (request) => {
    // What the page itself gave up, because it went on to something else.
    const reason = request.failure()?.errorText ?? '';
    if (reason !== 'net::ERR_ABORTED') problems.push(`${reason} ${request.method()} ${request.url()}`);
  });
  return problems;
}

/** The id of the person's farm. @param {Visit['ask']} ask @returns {Promise<string>} */
export async function farmOf(ask) {
  const me = await ask('/api/v1/me');
  assert.equal(me.farms.length, 1);
  return me.farms[0].id;
}

/** Opens the farm's page and waits until every station has a value. @param {Visit} visit */
export async function openFarm({ page, go }) {
  await go('/');
  await page.waitForFunction((stations) => {
    const values = [...document.querySelectorAll('[data-station] [data-quantity=soil_moisture]')];
    return values.length === stations && values.every((cell) => /\d\.\d{3}/.test(cell.textContent ?? ''));
  }, STATIONS);
}

export const STATIONS = 24;
export const FIELDS = 3;

/** How far the page reaches out of the window to the right. @param {Page} page */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** Waits until a station's charts are there. @param {Page} page @param {string} quantity */
export async function chartDrawn(page, quantity = 'soil_moisture') {
  const chart = page.locator(`[data-chart=${quantity}]`);
  await page.waitForFunction((name) => Number(document.querySelector(`[data-chart=${name}]`)?.getAttribute('data-points')) > 10, quantity);
  await chart.locator('canvas').waitFor();
  return chart;
}

/** How often is asked for what is not there yet. */
const POLL_MS = 500;

/**
 * An alert that is as wanted, as soon as there is one.
 * @param {Visit} visit
 * @param {string} farm
 * @param {(alert: any) => boolean} wanted About one channel, unless it says otherwise; open or not any more.
 * @returns {Promise<any>}
 */
export async function someAlert({ ask }, farm, wanted = (alert) => alert.channel !== null) {
  for (const began = Date.now(); Date.now() - began < PATIENCE_MS; await setTimeout(POLL_MS)) {
    const { items } = await ask(`/api/v1/farms/${farm}/alerts?state=all&limit=200`);
    const alert = items.find(wanted);
    if (alert !== undefined) return alert;
  }
  assert.fail(`no such alert within ${PATIENCE_MS / 1000} s`);
}
