// Numbers and times for people.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];
const COUNTS = ["", "k", "M", "G", "T"];

function scaled(value, step, units) {
  let number = value;
  let unit = 0;
  while (number >= step * 0.9995 && unit < units.length - 1) {
    number /= step;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
  return [number.toFixed(digits), units[unit]];
}

export function size(bytes) {
  return scaled(bytes || 0, 1024, SIZES).join(" ");
}

export function count(number) {
  if (number < 10000) return String(Math.round(number || 0));
  const [text, unit] = scaled(number, 1000, COUNTS);
  return `${text} ${unit}`;
}

export function bits(perSecond) {
  const [text, unit] = scaled(perSecond || 0, 1000, COUNTS);
  return `${text} ${unit}bit/s`;
}

export function perSecond(number) {
  return `${count(number)}/s`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  const rest = whole % 60;
  if (minutes < 60) return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48 && minutes % 60 === 0) return `${hours} h`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

// A moment, in the time zone of the reader, as ISO 8601 without the letter.
export function moment(at, digits = 0) {
  if (!at) return "";
  const date = new Date(at * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(at, digits)}`;
}

export function clock(at, digits = 0) {
  const date = new Date(at * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const part = Math.floor((at % 1) * 10 ** digits + 1e-3);
  const fraction = digits ? `.${String(part).padStart(digits, "0")}` : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction}`;
}

export function ago(at, now = Date.now() / 1000) {
  return `${seconds(Math.max(0, now - at))} ago`;
}

export function plural(number, one, several = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : several}`;
}

// Seconds of a duration as people write it: 90, 90s, 2m, 1h. NaN if it is none.
export function inSeconds(text) {
  const found = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?$/.exec(text.trim());
  if (!found) return NaN;
  const factor = { ms: 0.001, s: 1, m: 60, min: 60, h: 3600, d: 86400 }[found[2] || "s"];
  return Number(found[1]) * factor;
}
