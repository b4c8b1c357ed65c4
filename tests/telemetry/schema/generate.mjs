// generate.mjs FILE...: prints a module that says of each dashboard, and of each of its panels, which type it is of.
import { readFileSync } from "node:fs";
import { basename } from "node:path";

const kinds = new Set(["row", "stat", "timeseries", "heatmap"]);
const lines = ['import type { Board, Panels } from "./types";'];
for (const file of process.argv.slice(2)) {
  const { panels, ...board } = JSON.parse(readFileSync(file, "utf8"));
  const name = basename(file, ".json");
  lines.push(`export const ${name}: Board = ${JSON.stringify({ ...board, panels: [] })};`);
  for (const panel of panels) {
    if (!kinds.has(panel.type)) throw new Error(`${file}: types.ts has no ${panel.type}`);
    lines.push(`// ${name}: ${panel.title}`);
    lines.push(`export const ${name}_${panel.id}: Panels["${panel.type}"] = ${JSON.stringify(panel)};`);
  }
}
console.log(lines.join("\n"));
