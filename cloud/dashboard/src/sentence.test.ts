import { expect, test } from 'vitest';
import { sentence } from './sentence';

test('a text becomes a sentence, and a name at its beginning stays', () => {
  expect(sentence('there is no station c9')).toBe('There is no station c9.');
  expect(sentence('log in first!')).toBe('Log in first!');
  expect(sentence('timestamp.json expired')).toBe('timestamp.json expired.');
  expect(sentence('limits.max_bytes: 0 is not above 0')).toBe('limits.max_bytes: 0 is not above 0.');
});
