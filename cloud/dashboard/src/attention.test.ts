import { describe, expect, test } from 'vitest';
import { alertReason, alertSentence, alertTimes, attention } from './attention';
import type { UpdateStatus } from './client';
import { ago, alert, candidate, gateway, iso, NOW, overview, refusal, station, status, update } from './fixtures';

const titles = (changes: Parameters<typeof overview>[0]): string[] => attention(overview(changes), NOW).map((i) => i.title);

test('a quiet farm needs nothing', () => {
  expect(titles({})).toEqual([]);
});

test('faults come before dry fields, and those before what a model finds unusual', () => {
  const dry = ['c1', 'c2', 'c3'].map((id) => station(id, 0.19));
  const items = attention(
    overview({
      stations: dry,
      alerts: [
        alert('anomaly', { station: 'c1', model: 'soil-anomaly 1.0.0', message: 'Soil moisture 20 cm does not fit (1.6 times the threshold)' }),
        alert('spike', { station: 'c2', message: 'Soil moisture 20 cm jumped to 0.6 m³/m³ from 0.2 m³/m³, and back' }),
        alert('stuck'),
      ],
    }),
    NOW,
  );
  expect(items.map((i) => i.tone)).toEqual(['fault', 'fault', 'warning', 'warning']);
  expect(items[0]?.title).toBe('Creek · c3 soil moisture 20\u00a0cm stuck at 0.241\u00a0m³/m³ for 5\u00a0h 40\u00a0min');
  expect(items[2]?.title).toBe('Creek · soil moisture 20\u00a0cm is 0.010\u00a0m³/m³ below refill');
  expect(items[2]?.reason).toBe('0.190\u00a0m³/m³, median of 3 stations; refill 0.200, field capacity 0.330');
  expect(items[3]?.title).toBe('Creek · c1 soil moisture 20\u00a0cm does not fit');
});

test('silent stations of a field are one thing to do', () => {
  const alerts = ['c5', 'c6'].map((id) => alert('silent', { station: id, opened: ago(482), message: `Station ${id} silent for 8 h` }));
  const stations = [station('c5', 0.26), station('c6', 0.26)];
  const [item, ...others] = attention(overview({ alerts, stations }), NOW);
  expect(others).toEqual([]);
  expect(item).toMatchObject({ title: 'Creek · c5, c6 silent since Mon 22:02', reason: 'Last battery 3.90\u00a0V, signal −80\u00a0dBm' });
  expect(item?.href).toBe(`/farms/fallon/stations/c5?at=${encodeURIComponent(ago(482))}`);
});

test('of many silent stations some are named and the rest is counted', () => {
  const alerts = [1, 2, 3, 4, 5].map((n) => alert('silent', { station: `c${n}` }));
  expect(titles({ alerts })[0]).toMatch(/^Creek · c1, c2, c3 and 2 more silent since/);
});

test('stations are late before an alert says so, unless their gateway is away', () => {
  const stations = [station('c1', 0.26), station('c2', 0.26, { last_heard: ago(180) })];
  expect(titles({ stations })).toEqual(['Creek · c2 not heard since 03:04']);
  expect(titles({ stations, gateways: [gateway({ last_seen: ago(180) })] })).toEqual(['Gateway home not heard since 03:04']);
});

test('a model’s alert on a channel with a fault is the fault’s reason, not a line of its own', () => {
  const drivers = [
    { channel: 'soil_moisture_20cm', share: 0.92 },
    { channel: 'soil_moisture_40cm', share: 0.08 },
  ];
  const unusual = alert('anomaly', { score: 3.8, threshold: 1, model: 'soil-anomaly 1.0.0', drivers });
  const items = attention(overview({ alerts: [unusual, alert('stuck')] }), NOW);
  expect(items).toHaveLength(1);
  expect(items[0]?.reason).toBe('Anomaly score 3.8 (threshold 1.0), driven 92\u00a0% by this channel. Model soil-anomaly 1.0.0');
});

test('closed alerts need nobody', () => {
  expect(titles({ alerts: [alert('stuck', { closed: ago(5) })] })).toEqual([]);
});

describe('a gateway’s models', () => {
  const itemsWith = (changes: Partial<UpdateStatus>) => attention(overview({ gateways: [gateway({ status: { update: update(changes) } as never })] }), NOW);

  test('need nothing while all is well', () => {
    expect(itemsWith({})).toEqual([]);
  });

  test('in shadow can be compared', () => {
    const shadow = { windows: 4608, until: iso(NOW + 6 * 3_600_000), agreement: 0.9923, mean_difference: 0.04, alerts: 3, active_alerts: 3 };
    expect(itemsWith({ models: [status({ candidate: candidate('1.1.0', { phase: 'shadow', shadow }) })] })).toMatchObject([
      {
        tone: 'none',
        title: 'Model soil-anomaly 1.1.0 is in shadow on gateway home',
        reason: 'Agrees on 99.2 % of 4,608 windows; ends in 6 h',
        href: '/farms/fallon/models/soil-anomaly/1.1.0',
      },
    ]);
  });

  test('that were refused are told of with the gateway’s words, until something comes after them', () => {
    const refusals = [refusal('1.1.0')];
    expect(itemsWith({ models: [status({ refusals })] })).toMatchObject([
      {
        tone: 'warning',
        title: 'Gateway home refused soil-anomaly 1.1.0',
        reason: 'A golden sample comes out differently. Golden sample 3: expected 0.412, got 0.618.',
      },
    ]);
    expect(itemsWith({ models: [status({ refusals, candidate: candidate('1.1.1') })] })).toEqual([]);
    expect(itemsWith({ models: [status({ refusals: [refusal('1.1.0', { at: ago(90) })] })] })).toEqual([]);
  });

  test('cannot be brought up to date from a registry that is refused', () => {
    expect(itemsWith({ refusal: refusal(null, { reason: 'expired', text: 'timestamp.json expired' }) })).toMatchObject([
      { title: 'Gateway home gets no model updates', reason: 'The registry’s metadata is out of date. timestamp.json expired.' },
    ]);
  });
});

describe('an alert in words', () => {
  test('leaves out the station, which stands before it, and the score, which stands below it', () => {
    expect(alertSentence({ station: 'c5', message: 'Station c5 silent for 8 h' })).toBe('silent for 8\u00a0h');
    expect(alertSentence({ station: 'c5', message: 'c5: battery missing.' })).toBe('battery missing');
    expect(alertSentence({ station: 'c5', message: 'Soil ec 20 cm at 0.4 dS/m does not fit (1.6 times the threshold)' })).toBe(
      'soil EC 20\u00a0cm at 0.4\u00a0dS/m does not fit',
    );
  });

  test('names the channel that drove the score when it is another', () => {
    const drivers = [
      { channel: 'battery', share: 0.7 },
      { channel: 'rssi', share: 0.3 },
    ];
    expect(alertReason({ ...alert('anomaly'), drivers })).toBe('Score 5.7 (threshold 4.0), driven 70\u00a0% by battery');
  });

  test('says since when, or from when to when', () => {
    expect(alertTimes(alert('stuck'), NOW, 'America/Los_Angeles')).toBe('since 00:24, for 5 h 40 min');
    expect(alertTimes(alert('stuck', { closed: ago(40) }), NOW, 'America/Los_Angeles')).toBe('00:24 to 05:24, 5 h');
  });
});
