// The type of a dashboard's JSON, derived from the types of @grafana/schema. It rejects keys that Grafana does not know. A
// new kind of panel must be added to `Kinds`.
import type * as Grafana from '@grafana/schema';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** The JSON form of a type: enum values are strings, and all members are optional, because Grafana has defaults. */
type Json<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends (infer Item)[]
        ? Json<Item>[]
        : { [Key in keyof T]?: Json<T[Key]> };

/** The panel options and custom field options of each kind of panel. */
interface Kinds {
  heatmap: { options: Heatmap.Options; field: Heatmap.FieldConfig };
  stat: { options: Stat.Options; field: Record<never, never> };
  table: { options: Table.Options; field: Table.FieldConfig };
  timeseries: { options: TimeSeries.Options; field: TimeSeries.FieldConfig };
}

/** A PromQL query of Grafana's Prometheus data source, for which @grafana/schema has no type. */
interface Query {
  refId: string;
  expr: string;
  legendFormat?: string;
  format?: 'heatmap' | 'table' | 'time_series';
  instant?: boolean;
  exemplar?: boolean;
}

type Field<Own> = Omit<Json<Grafana.FieldConfig>, 'custom'> & { custom?: Json<Own> };

interface Override<Own> {
  matcher: { id: 'byName' | 'byRegexp'; options: string };
  properties: { id: keyof Grafana.FieldConfig | `custom.${keyof Own & string}`; value: unknown }[];
}

type PanelOf<Kind extends keyof Kinds> = Omit<
  Json<Grafana.Panel>,
  'type' | 'id' | 'title' | 'gridPos' | 'targets' | 'options' | 'fieldConfig'
> & {
  type: Kind;
  id: number;
  title: string;
  gridPos: Grafana.GridPos;
  targets: Query[];
  options: Json<Kinds[Kind]['options']>;
  fieldConfig: { defaults: Field<Kinds[Kind]['field']>; overrides: Override<Kinds[Kind]['field']>[] };
};

type Panel = { [Kind in keyof Kinds]: PanelOf<Kind> }[keyof Kinds];

interface Row {
  type: 'row';
  id: number;
  title: string;
  collapsed: boolean;
  gridPos: Grafana.GridPos;
  panels: Panel[];
}

export type Dashboard = Omit<Json<Grafana.Dashboard>, 'uid' | 'title' | 'schemaVersion' | 'panels'> & {
  uid: string;
  title: string;
  schemaVersion: number;
  panels: (Panel | Row)[];
};
