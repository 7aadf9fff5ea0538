import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { farmOf, overflow, SIZES, someAlert, visitLoggedIn } from './farm.mjs';
import { BASE, goodVersion, HUNGRY_VERSION, hungryVersion, NAME, refusedVersion, VERSION, WRONG_VERSION, wrongVersion } from './model.mjs';

/** @typedef {import('playwright-core').Page} Page */

/** How long the new version runs in shadow, seconds of our clock: long enough to be seen, several reports of the gateway. */
const SHADOW_S = 25;

/** The tests go on from one another: a version is pushed, activated, seen, and rolled back. */
let farm = '';
/** @type {string} */
let running = BASE;

before(async () => {
  await visitLoggedIn({}, async ({ ask, page }) => {
    farm = await farmOf(ask);
    // The gateway's first report comes seconds after the farm has started.
    await page.goto(`/farms/${farm}/models`);
    const active = page.locator(`[data-testid=model][data-name=${NAME}] [data-active]`).first();
    await active.waitFor();
    running = (await active.getAttribute('data-active')) ?? BASE;
  });
});

/** Opens the panel for a new version and gives it files. @param {Page} page @param {ReturnType<typeof goodVersion>} files */
async function give(page, files) {
  await page.getByRole('button', { name: 'Push a version' }).click();
  await page.getByLabel('Choose both files').setInputFiles(files);
}

for (const [name, size] of Object.entries(SIZES)) {
  test(`the models page has each version, and what runs where (${name})`, async () => {
    await visitLoggedIn({ size }, async ({ page, go }) => {
      await go(`/farms/${farm}`);
      await page.getByRole('link', { name: 'Models' }).click();
      await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor();
      const row = page.locator(`[data-version="${running}"]`);
      await row.getByText(/^active on /).waitFor();
      assert.equal(await overflow(page), 0);

      await row.getByRole('link', { name: running, exact: true }).click();
      await page.getByRole('heading', { level: 1, name: `${NAME} ${running}` }).waitFor();
      await page.getByText(/^96 windows of 15 min: the last 24 h/).waitFor();
      await page.getByText('soil moisture 10, 20, 40 cm').first().waitFor();
      await page.getByText(/^a score from \d.* is an anomaly$/).waitFor();
      assert.equal(await overflow(page), 0);
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /\.toml/ }).click()]);
      /** @type {Buffer[]} */
      const chunks = [];
      for await (const chunk of await download.createReadStream()) chunks.push(chunk);
      assert.match(Buffer.concat(chunks).toString(), new RegExp(`^name = "${NAME}"`, 'm'));
    });
  });
}

test('files that are no version are told of before anything is sent', async () => {
  await visitLoggedIn({}, async ({ page, go }) => {
    await go(`/farms/${farm}/models`);
    await give(page, [{ name: 'weights.zip', mimeType: 'application/zip', buffer: Buffer.from('zip') }]);
    await page.getByRole('alert').getByText('weights.zip is neither an ONNX file (.onnx) nor a manifest (.toml).').waitFor();
    await page.getByRole('button', { name: 'Push to the registry' }).click();
    await page.getByRole('alert').getByText('model.onnx is missing').waitFor();
    await page.getByRole('alert').getByText('manifest.toml is missing').waitFor();
  });
});

test('a manifest with mistakes is refused, and each mistake is a line of its own', async () => {
  await visitLoggedIn({ expected: /422 POST .*\/api\/v1\/models$/ }, async ({ page, go }) => {
    await go(`/farms/${farm}/models`);
    await give(page, refusedVersion());
    await page.getByRole('button', { name: 'Push to the registry' }).click();
    const refusal = page.getByTestId('refusal');
    await refusal.waitFor();
    const lines = await refusal.getByRole('listitem').allInnerTexts();
    for (const key of ['version', 'threshold', 'limits.max_latency_ms']) {
      assert.equal(lines.filter((line) => line.startsWith(`${key}: `)).length, 1, `${key}: ${lines.join(' | ')}`);
    }
  });
});

test('a version is pushed, activated, and seen on its way until it judges', async () => {
  await visitLoggedIn({}, async ({ page, go, ask }) => {
    await stopPolling(page);
    await go(`/farms/${farm}/models`);
    await give(page, goodVersion());
    await page.getByRole('button', { name: 'Push to the registry' }).click();
    await page.getByText(`${NAME} ${VERSION} is in the registry`).waitFor();
    await page.locator(`[data-version="${VERSION}"]`).getByText('nowhere').waitFor();
    await page.getByRole('link', { name: 'Look and activate' }).click();

    await page.getByRole('heading', { level: 1, name: `${NAME} ${VERSION}` }).waitFor();
    await page.getByTestId('metrics').getByRole('row', { name: /^recall 0\.750/ }).waitFor();

    await page.getByLabel('Time in shadow, hours').fill('a while');
    await page.getByRole('button', { name: `Activate ${VERSION}` }).click();
    await page.getByRole('alert').getByText('Give hours from 0 to 4,320.').waitFor();

    const { speed } = await ask(`/api/v1/farms/${farm}`);
    await page.getByLabel('Time in shadow, hours').fill(String(Math.ceil((SHADOW_S * speed) / 3600)));
    await watchPhases(page);
    await page.getByRole('button', { name: `Activate ${VERSION}` }).click();
    await page.getByText(`${VERSION} is assigned to `).waitFor();
    await page.locator('[data-phase=shadow]').waitFor();
    await page.getByRole('listitem').and(page.locator('[aria-current=step]')).filter({ hasText: 'shadow' }).waitFor();
    await page.getByTestId('agreement').getByText(/^Agrees on 100 % of [\d,]+ windows?/).waitFor();
    await page.locator(`[data-active="${VERSION}"]`).waitFor();
    await page.getByText(`active on `).first().waitFor();

    const seen = await page.evaluate(() => document.body.dataset.phases?.split(' ') ?? []);
    assert.deepEqual(seen, seen.toSorted((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b)), 'in order, and each once');
    assert.ok(seen.includes('waiting') && seen.includes('shadow') && seen.at(-1) === 'none', seen.join());
  });
});

const ORDER = ['waiting', 'fetching', 'verified', 'self_tested', 'shadow', 'none'];

/** From the next page on, what changes is seen only when the farm tells of it. @param {Page} page */
function stopPolling(page) {
  return page.addInitScript(() => {
    const POLL_MS = 5000;
    const original = window.setInterval.bind(window);
    const without = (/** @type {TimerHandler} */ handler, /** @type {number | undefined} */ ms) => (Number(ms) < POLL_MS ? original(handler, ms) : 0);
    window.setInterval = /** @type {typeof window.setInterval} */ (without);
  });
}

/** Notes each phase that the page shows from now on, without a reload. @param {Page} page */
async function watchPhases(page) {
  await page.evaluate(() => {
    const note = () => {
      const seen = document.body.dataset.phases?.split(' ') ?? [];
      const phase = document.querySelector('[data-phase]')?.getAttribute('data-phase');
      // Before it is assigned nothing is on its way either.
      if (phase && phase !== seen.at(-1) && (phase !== 'none' || seen.length > 0)) document.body.dataset.phases = [...seen, phase].join(' ');
    };
    new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-phase'] });
  });
}

test('the gateway’s page says what runs, since when and why', async () => {
  await visitLoggedIn({}, async ({ page, go, ask }) => {
    await go(`/farms/${farm}/gateways`);
    const model = page.locator(`[data-gateway] [data-model=${NAME}]`).first();
    await model.getByText(/^since .*shadow/).waitFor();
    const { sha256 } = await ask(`/api/v1/models/${NAME}/${VERSION}`);
    assert.equal(await model.locator('code').first().innerText(), sha256.slice(0, 12));
    assert.equal(await model.getAttribute('data-active'), VERSION);
    await page.getByTestId('registry').getByText(/^Read the registry (just now|.* ago)/).first().waitFor();
  });
});

test('a rollback says what comes back, can be left, and brings it back', async () => {
  await visitLoggedIn({}, async ({ page, go }) => {
    await go(`/farms/${farm}/models`);
    const open = page.getByRole('button', { name: 'Roll back …' });
    await open.click();
    const dialog = page.getByRole('dialog', { name: `Roll back ${NAME}?` });
    await dialog.getByText(new RegExp(`^On gateway .*, ${running} comes back in place of ${VERSION}\\.$`)).waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    assert.equal(await page.locator(`[data-testid=model] [data-active="${VERSION}"]`).count(), 1, 'nothing has changed');
    assert.ok(await open.evaluate((element) => element === document.activeElement), 'one goes on where one was');

    await open.click();
    await dialog.getByRole('button', { name: 'Roll back', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    await page.locator(`[data-testid=model] [data-active="${running}"]`).waitFor();
    const events = page.getByTestId('model-events');
    for (const what of [`${VERSION} went into shadow`, `${VERSION} became active`, `${running} became active`]) {
      await events.getByText(`${NAME} ${what} on `).first().waitFor();
    }
  });
});

const REFUSED = [
  { reason: 'golden', version: WRONG_VERSION, files: wrongVersion(), words: /golden sample 0, expected/ },
  { reason: 'memory', version: HUNGRY_VERSION, files: hungryVersion(), words: /of memory, more than .*the 1 bytes that its manifest allows/ },
];

for (const { reason, version, files, words } of REFUSED) {
  test(`a version that a gateway refuses is refused in its words, and what runs goes on (${reason})`, async () => {
    await visitLoggedIn({}, async ({ page, go }) => {
      await go(`/farms/${farm}/models`);
      await give(page, files);
      await page.getByRole('button', { name: 'Push to the registry' }).click();
      await page.getByRole('link', { name: 'Look and activate' }).click();
      await page.getByRole('button', { name: `Activate ${version}` }).click();
      await page.getByText(/^refused by /).waitFor();
      await page.locator(`[data-refusal=${reason}]`).getByText(words).waitFor();

      await page.getByRole('link', { name: 'Gateways' }).click();
      const model = page.locator(`[data-gateway] [data-model=${NAME}]`).first();
      await model.locator(`[data-refusal=${reason}]`).filter({ hasText: version }).getByText(words).waitFor();
      assert.equal(await model.getAttribute('data-active'), running);

      await page.getByRole('link', { name: 'Farm', exact: true }).click();
      await page.getByTestId('attention').getByText(`refused ${NAME} ${version}`).waitFor();
    });
  });
}

test('who may not change models sees them, and why there is no button', async () => {
  await visitLoggedIn({}, async ({ page, go }) => {
    await page.route('**/api/v1/me', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), role: 'viewer' } });
    });
    await go(`/farms/${farm}/models`);
    await page.getByText('Operators and admins push and activate versions').waitFor();
    await page.locator(`[data-version="${running}"]`).waitFor();
    assert.equal(await page.getByRole('button', { name: /Push|Roll back/ }).count(), 0);
    await page.getByRole('link', { name: running, exact: true }).first().click();
    await page.getByText('Operators and admins activate versions').waitFor();
    assert.equal(await page.getByRole('button', { name: /Activate/ }).count(), 0);
  });
});

test('a cloud that fails is said to fail, and tried again', async () => {
  await visitLoggedIn({ expected: /503 GET .*\/models$/ }, async ({ page, go }) => {
    await page.route('**/api/v1/models', (route) =>
      route.fulfill({ status: 503, contentType: 'application/problem+json', json: { detail: 'the database does not answer; try again' } }),
    );
    await go(`/farms/${farm}/models`);
    const alert = page.getByRole('alert').filter({ hasText: 'The models cannot be shown' });
    await alert.getByText('The database does not answer; try again.').waitFor();
    await page.unroute('**/api/v1/models');
    await alert.getByRole('button', { name: 'Try again' }).click();
    await page.getByTestId('model').first().waitFor();
    assert.equal(await alert.count(), 0);
  });
});

test('a version that is not there is said not to be there', async () => {
  await visitLoggedIn({}, async ({ page, go }) => {
    await go(`/farms/${farm}/models/${NAME}/99.0.0`);
    await page.getByRole('alert').filter({ hasText: `There is no ${NAME} 99.0.0` }).waitFor();
  });
});

const NODE_MODEL = process.env.TILTH_NODE_MODEL;

test('a model that has just come to a node is seen to be on probation', { skip: NODE_MODEL === undefined && 'TILTH_NODE_MODEL names no file' }, async () => {
  await visitLoggedIn({}, async ({ page, go }) => {
    const model = { name: 'soil.node', mimeType: 'application/octet-stream', buffer: await readFile(NODE_MODEL ?? '') };
    const pushed = await page.request.post('/api/v1/node-models', { multipart: { name: 'soil-node', model } });
    assert.ok(pushed.status() === 201 || pushed.status() === 409, await pushed.text());
    await go(`/farms/${farm}/models`);
    const card = page.getByTestId('node-models');
    await card.waitFor();
    const staged = await page.request.put(`/api/v1/farms/${farm}/node-models`, { data: { name: 'soil-node', version: '1.0.0', stations: ['n1'], share: 0 } });
    assert.equal(staged.status(), 200, await staged.text());
    await card.getByText('soil-node').waitFor();
    await card.locator('[data-station=n1][data-probation=true]').getByText('runs 1.0.0 on probation').waitFor();
    // Who is not in the stage runs none, and is on no probation.
    await card.locator('[data-station=n2][data-probation=false]').getByText('runs none').waitFor();
    assert.equal(await overflow(page), 0);
    const pictures = process.env.SCREENSHOTS;
    if (pictures !== undefined) await page.screenshot({ path: join(pictures, 'node-models.png'), fullPage: true });
  });
});

test('an alert names the version that raised it, and leads to it', async () => {
  await visitLoggedIn({}, async (visit) => {
    const { page, go } = visit;
    const alert = await someAlert(visit, farm, ({ model }) => model !== null);
    await go(`/farms/${farm}/alerts?state=all`);
    const row = page.locator(`[data-alert="${alert.id}"]`);
    await row.getByText(`Model ${alert.model}`).waitFor();
    // Open or closed by now, it stands beside the charts of its time.
    await row.getByRole('link').click();
    await page.locator('aside').getByRole('link', { name: alert.model }).first().click();
    await page.getByRole('heading', { level: 1, name: alert.model }).waitFor();
  });
});
