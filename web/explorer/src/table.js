// A selection as a CSV file.

/** What a spreadsheet takes for the start of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/**
 * Writes a table as CSV. Texts that a spreadsheet would compute get an apostrophe in front of them:
 * a page is passed on, and who opens its file may not know where the texts came from.
 * @param {string[]} names
 * @param {(string | number)[][]} rows
 */
export function toCsv(names, rows) {
  return [names, ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

/** @param {string | number} value */
function cell(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
