import { expect, test } from 'vitest';
import { addFiles, type GivenFile, MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, type ModelFiles, refusalLines } from './model-files';

const NONE: ModelFiles<GivenFile> = { model: null, manifest: null };
const file = (name: string, size = 100): GivenFile => ({ name, size });

test('the two files are told apart by their names, in any order, together or one after the other', () => {
  const [model, manifest] = [file('model.onnx'), file('MANIFEST.TOML')];
  const both = { files: { model, manifest }, mistakes: [] };
  expect(addFiles(NONE, [manifest, model])).toEqual(both);
  expect(addFiles(addFiles(NONE, [model]).files, [manifest])).toEqual(both);
});

test('a file that is chosen again takes the place of the one before', () => {
  const again = file('other.onnx', 200);
  expect(addFiles({ model: file('model.onnx'), manifest: null }, [again]).files.model).toBe(again);
});

test('what cannot be one of them is named, the rest is kept', () => {
  const before = { model: file('model.onnx'), manifest: null };
  const { files, mistakes } = addFiles(before, [file('a.zip'), file('b.toml', 0), file('c.onnx', MAX_MODEL_BYTES + 1), file('d.toml', MAX_MANIFEST_BYTES + 1)]);
  expect(files).toEqual(before);
  expect(mistakes).toEqual([
    'a.zip is neither an ONNX file (.onnx) nor a manifest (.toml).',
    'b.toml is empty.',
    'c.onnx is larger than 16 MiB, the most that the registry takes.',
    'd.toml is larger than 4 MiB, the most that the registry takes.',
  ]);
});

test('of two of a kind given at once only the first is taken', () => {
  const [first, second] = [file('a.onnx'), file('b.onnx')];
  const { files, mistakes } = addFiles(NONE, [first, second]);
  expect(files.model).toBe(first);
  expect(mistakes).toEqual(['b.onnx is a second ONNX file; one version has one.']);
});

test('each mistake of a manifest is a line of its own, a parser’s picture is one', () => {
  expect(refusalLines('version: "one" is not three numbers like 1.0.0; threshold: 0.0 is not a number above 0')).toEqual([
    'version: "one" is not three numbers like 1.0.0',
    'threshold: 0.0 is not a number above 0',
  ]);
  const picture = 'TOML parse error at line 1, column 3\n  |\n1 | a; b\n  |   ^\nkey with no value';
  expect(refusalLines(picture)).toEqual([picture]);
});
