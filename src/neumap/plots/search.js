// Fades the points whose text does not contain what is in the search field. Runs inside bokeh with
// `source`, `columns`, `contrast` and the field as `cb_obj`.
const wanted = cb_obj.value_input.trim().toLowerCase();
const { data } = source;
source._alpha_before ??= Float32Array.from(data.alpha);
const matches = (row) =>
  columns.some((name) => String(data[name][row]).toLowerCase().includes(wanted));
data.alpha = Float32Array.from(source._alpha_before, (before, row) =>
  wanted === "" ? before : matches(row) ? contrast : 1 - contrast,
);
source.change.emit();
