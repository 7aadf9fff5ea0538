/** What the stations measure, and how a person reads it. The names, units and decimals are those of `proto`. */

export interface QuantityFacts {
  /** As in a sentence: "soil moisture". */
  readonly label: string;
  /** As people write the unit: "m³/m³". */
  readonly symbol: string;
  /** One precision per quantity, wherever it is shown. */
  readonly decimals: number;
  /** The least height of a chart's axis, so that sensor noise is not drawn as an event. */
  readonly leastSpan: number;
  /** A value that the axis always shows, such as zero for rain. */
  readonly base?: number;
  /** Where the axis ends at the latest, such as 100 for a percentage. */
  readonly ceiling?: number;
}

const FACTS: Readonly<Record<string, QuantityFacts>> = {
  soil_moisture: { label: 'soil moisture', symbol: 'm³/m³', decimals: 3, leastSpan: 0.06 },
  soil_temperature: { label: 'soil temperature', symbol: '°C', decimals: 1, leastSpan: 6 },
  soil_ec: { label: 'soil EC', symbol: 'dS/m', decimals: 2, leastSpan: 0.3 },
  nitrate: { label: 'nitrate', symbol: 'mg/kg', decimals: 1, leastSpan: 6 },
  phosphorus: { label: 'phosphorus', symbol: 'mg/kg', decimals: 1, leastSpan: 6 },
  potassium: { label: 'potassium', symbol: 'mg/kg', decimals: 1, leastSpan: 6 },
  air_temperature: { label: 'air temperature', symbol: '°C', decimals: 1, leastSpan: 6 },
  relative_humidity: { label: 'relative humidity', symbol: '%', decimals: 0, leastSpan: 30, ceiling: 100 },
  wind_speed: { label: 'wind speed', symbol: 'm/s', decimals: 1, leastSpan: 3, base: 0 },
  solar_radiation: { label: 'solar radiation', symbol: 'W/m²', decimals: 0, leastSpan: 300, base: 0 },
  rain: { label: 'rain', symbol: 'mm', decimals: 1, leastSpan: 3, base: 0 },
  pressure: { label: 'air pressure', symbol: 'hPa', decimals: 1, leastSpan: 6 },
  leaf_wetness: { label: 'leaf wetness', symbol: '%', decimals: 0, leastSpan: 60, ceiling: 100 },
  battery: { label: 'battery', symbol: 'V', decimals: 2, leastSpan: 0.6 },
  rssi: { label: 'signal', symbol: 'dBm', decimals: 0, leastSpan: 15 },
};

/** The facts of a quantity; one that this page does not know yet is shown by its own name with two decimals. */
export function quantityFacts(quantity: string): QuantityFacts {
  return FACTS[quantity] ?? { label: quantity.replaceAll('_', ' '), symbol: '', decimals: 2, leastSpan: 1 };
}

/** What is shown where there is no value. */
export const NO_VALUE = '–';

/** The value in the quantity's precision, with a true minus sign and without "−0.0". */
export function formatValue(quantity: string, value: number | null | undefined): string {
  return formatNumber(value, quantityFacts(quantity).decimals);
}

/** A number with this many decimals, thousands apart. */
export function formatNumber(value: number | null | undefined, decimals = 0): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NO_VALUE;
  const text = Math.abs(value).toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

/** The value and its unit: "0.241 m³/m³". */
export function formatWithUnit(quantity: string, value: number | null | undefined): string {
  const { symbol } = quantityFacts(quantity);
  const text = formatValue(quantity, value);
  return text === NO_VALUE || symbol === '' ? text : `${text}\u00a0${symbol}`;
}

/** A share of one as a whole percentage; what is not nothing is not shown as nothing. */
export function formatShare(share: number): string {
  const percent = share * 100;
  return percent > 0 && percent < 1 ? '< 1 %' : `${Math.round(percent)} %`;
}

/** Bytes in the unit that leaves one to three digits before the point. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${formatNumber(value, unit === 0 || value >= 100 ? 0 : 1)} ${units[unit] ?? ''}`;
}

/** A sentence with its units (UCUM) and abbreviations written as people write them, and no line's end between a number and its unit. */
export function readableUnits(sentence: string): string {
  return sentence
    .replace(/\bm3\/m3\b/g, 'm³/m³')
    .replace(/\b(soil) ec\b/gi, '$1 EC')
    .replace(/\bCel\b/g, '°C')
    .replace(/\bW\/m2\b/g, 'W/m²')
    .replace(/(\d) (?=(?:cm|mm?|min|h|d|s|V|dBm|%|°C|m³\/m³|m\/s|W\/m²|dS\/m|mg\/kg|hPa)(?![\p{L}]))/gu, '$1\u00a0');
}
