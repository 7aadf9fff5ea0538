/** What the charts draw besides lines: alerts as spans, rejected readings as crosses, the beginnings of days. */

import uPlot from 'uplot';
import type { Mark } from './panel';
import type { Rejection } from './series';
import { byUrgency } from './tone';

/** A colour of the style sheet by its name. */
export type ChartColours = (name: string) => string;

/** Bars that fill most of their hour or day and stay visible when those are narrow. */
export function barPaths(): uPlot.Series.PathBuilder {
  const bars = uPlot.paths.bars;
  if (bars === undefined) throw new Error('uPlot was built without bars');
  return bars({ size: [0.8, 28, 2], align: 1, radius: 0.12 });
}

/** The part of a mark that is inside the chart, in canvas pixels; null when none is. */
function extent(u: uPlot, mark: Mark, to: number): { left: number; right: number; begins: boolean } | null {
  const { left, width } = u.bbox;
  const start = u.valToPos(mark.from / 1000, 'x', true);
  const end = u.valToPos((mark.to ?? to) / 1000, 'x', true);
  if (end < left || start > left + width) return null;
  return { left: Math.max(left, start), right: Math.min(left + width, Math.max(end, start + 2)), begins: start >= left };
}

/** Below the lines, before anything else is drawn: each alert's time. Where times overlap the most urgent is seen, not all of them darker. */
export function shadeMarks(u: uPlot, marks: readonly Mark[], to: number, colour: ChartColours): void {
  const { ctx } = u;
  const { top, height } = u.bbox;
  ctx.save();
  ctx.globalAlpha = 0.1;
  for (const mark of marks.toSorted((a, b) => byUrgency(b.tone, a.tone))) {
    const place = extent(u, mark, to);
    if (place === null) continue;
    ctx.clearRect(place.left, top, place.right - place.left, height);
    ctx.fillStyle = colour(mark.tone);
    ctx.fillRect(place.left, top, place.right - place.left, height);
  }
  ctx.restore();
}

/** Above the lines: where each alert begins, and its words, each below those that it would cover. */
export function drawMarks(u: uPlot, marks: readonly Mark[], to: number, words: boolean, colour: ChartColours): void {
  const { ctx } = u;
  const { top, height, left, width } = u.bbox;
  const pixel = uPlot.pxRatio;
  const rows: number[] = [];
  ctx.save();
  ctx.font = `600 ${11 * pixel}px 'Inter', system-ui, sans-serif`;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'top';
  for (const mark of marks.toSorted((a, b) => a.from - b.from)) {
    const place = extent(u, mark, to);
    if (place === null) continue;
    ctx.fillStyle = colour(mark.tone);
    // On whole pixels, or the line is a blur.
    if (place.begins) ctx.fillRect(Math.round(place.left - pixel * 0.75), top, Math.round(1.5 * pixel), height);
    if (!words) continue;
    const length = ctx.measureText(mark.label).width;
    const fits = place.left + 6 * pixel + length <= left + width;
    const start = fits ? place.left + 6 * pixel : place.left - 6 * pixel - length;
    const free = rows.findIndex((end) => end + 8 * pixel < start);
    const row = free === -1 ? rows.length : free;
    // Words that find no room are left to the list beside the charts.
    if ((row + 1) * 15 * pixel > height || start < left) continue;
    rows[row] = start + length;
    const line = top + (4 + row * 15) * pixel;
    ctx.globalAlpha = 0.75;
    ctx.fillStyle = colour('card');
    ctx.fillRect(start - 2 * pixel, line - 2 * pixel, length + 4 * pixel, 14 * pixel);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour(mark.tone);
    ctx.fillText(mark.label, start, line);
  }
  ctx.restore();
}

/** A cross for each rejected reading; one beyond the axis stands at its edge. */
export function drawRejections(u: uPlot, rejections: readonly Rejection[], colour: ChartColours): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const arm = 4 * uPlot.pxRatio;
  ctx.save();
  ctx.strokeStyle = colour('warning');
  ctx.lineWidth = 1.8 * uPlot.pxRatio;
  ctx.beginPath();
  for (const { time, value } of rejections) {
    const x = u.valToPos(time, 'x', true);
    if (x < left || x > left + width) continue;
    const y = Math.min(top + height - arm, Math.max(top + arm, u.valToPos(value, 'y', true)));
    ctx.moveTo(x - arm, y - arm);
    ctx.lineTo(x + arm, y + arm);
    ctx.moveTo(x - arm, y + arm);
    ctx.lineTo(x + arm, y - arm);
  }
  ctx.stroke();
  ctx.restore();
}

/** Short strokes under the chart where days begin. `ticks` in ms. */
export function drawTicks(u: uPlot, ticks: readonly number[], colour: ChartColours): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.fillStyle = colour('ink-3');
  for (const tick of ticks) {
    const x = Math.round(u.valToPos(tick / 1000, 'x', true));
    if (x >= left && x <= left + width) ctx.fillRect(x, top + height, uPlot.pxRatio, 5 * uPlot.pxRatio);
  }
  ctx.restore();
}
