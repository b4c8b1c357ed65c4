// A dashboard as JSON, of the types that Grafana publishes: nothing more may be in it, also where those types leave a
// place open (options, custom fields, queries).
import type {
  AnnotationQuery, Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel, VariableModel,
} from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has the values of enums, not their names.
type Plain<T> = T extends string ? `${T}`
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> }
  : T;

// What the Prometheus data source takes; its package is not one of types alone.
interface Query extends DataQuery {
  expr: string;
  editorMode?: "code";
  exemplar?: boolean;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
}
interface Marks extends Omit<AnnotationQuery, "target"> {
  target: Query;
  // Of the Prometheus data source; expr and step are where it looked before there were targets.
  expr: string;
  step: string;
  tagKeys: string;
  textFormat: string;
  titleFormat: string;
}
interface Variable extends VariableModel {
  definition?: string;
}

interface Fields<Custom> extends Omit<FieldConfigSource, "defaults"> {
  defaults: Omit<FieldConfig, "custom"> & { custom?: Custom };
}
interface Of<Kind extends string, Options, Custom> extends Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> {
  type: Kind;
  title: string;
  options: Options;
  fieldConfig: Fields<Custom>;
  targets: Query[];
}
type Optional<T, Keys extends keyof T> = Omit<T, Keys> & Partial<Pick<T, Keys>>;

export interface Panels {
  row: Plain<RowPanel>;
  // Older versions of Grafana, which read these dashboards too, do not know these two.
  stat: Plain<Of<"stat", Optional<stat.Options, "percentChangeColorMode" | "showPercentChange">, never>>;
  timeseries: Plain<Of<"timeseries", timeseries.Options, timeseries.FieldConfig>>;
  heatmap: Plain<Of<"heatmap", heatmap.Options, heatmap.FieldConfig>>;
}
// The panels are checked one by one.
export type Board = Plain<Omit<Dashboard, "panels" | "annotations" | "templating"> & {
  panels: never[];
  annotations: { list: Marks[] };
  templating: { list: Variable[] };
}>;
