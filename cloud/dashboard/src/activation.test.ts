import { expect, test } from 'vitest';
import { checkActivation, shadowText } from './activation';

const FORM = { gateways: ['home'], shadow: '24', agreement: '90' };

test('what is right is sent as seconds and a share', () => {
  expect(checkActivation(FORM)).toEqual({ request: { gateways: ['home'], shadow_s: 86_400, min_agreement: 0.9 } });
  expect(checkActivation({ ...FORM, shadow: ' 0,5 ', agreement: '0' })).toEqual({ request: { gateways: ['home'], shadow_s: 1800, min_agreement: 0 } });
  expect(checkActivation({ ...FORM, shadow: '0' })).toMatchObject({ request: { shadow_s: 0 } });
});

test('each field that is wrong is named', () => {
  expect(checkActivation({ gateways: [], shadow: 'a day', agreement: '101' })).toEqual({
    mistakes: { gateways: 'Choose at least one gateway.', shadow: 'Give hours from 0 to 4,320.', agreement: 'Give a percentage from 0 to 100.' },
  });
  for (const shadow of ['', '-1', '4321', '1e3', 'Infinity']) expect(checkActivation({ ...FORM, shadow })).toHaveProperty('mistakes.shadow');
});

test('a shadow is told in the time of who reads it', () => {
  expect(shadowText('24', 1)).toBeNull();
  expect(shadowText('24', 240)).toBe('24 h of this farm’s time, which is 6 min of yours.');
  expect(shadowText('0', 240)).toBe('It takes over as soon as its self-test has passed.');
  expect(shadowText('soon', 240)).toBeNull();
});
