// A Prometheus data source in the page, with the features of Grafana's own that these dashboards use. It also lists the
// queries it has run.
import {
  type DataFrame,
  type DataQueryRequest,
  type DataQueryResponse,
  FieldType,
  type MetricFindValue,
  type ScopedVars,
  toDataFrame,
} from '@grafana/data';
import { RuntimeDataSource, type SceneObject, sceneGraph } from '@grafana/scenes';

export const SOURCE = 'prometheus-of-the-page';

/** The part of dashboard.ts' `Query` that is used here. */
interface Target {
  refId: string;
  expr: string;
  legendFormat?: string;
  format?: 'heatmap' | 'table' | 'time_series';
  instant?: boolean;
}

type Labels = Record<string, string>;
interface Series {
  metric: Labels;
  values: [number, string][];
}

const seconds = (milliseconds: number) => `${Math.max(1, Math.round(milliseconds / 1000))}s`;
const number = (text: string) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

async function ask(path: string, parameters: Record<string, string>) {
  const reply = await fetch(`/prometheus/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const answer = await reply.json();
  if (answer.status !== 'success') {
    throw new Error(`${parameters.query}: ${answer.error}`);
  }
  return answer.data;
}

export class Prometheus extends RuntimeDataSource<never> {
  asked: { expr: string; series: number }[] = [];

  constructor(private scrape: number) {
    super(SOURCE, SOURCE);
  }

  async query(request: DataQueryRequest<never>): Promise<DataQueryResponse> {
    const targets = request.targets as Target[];
    const tables = targets.filter((target) => target.format === 'table').length;
    const data = await Promise.all(targets.map((target) => this.frames(request, target, tables > 1)));
    return { data: data.flat() };
  }

  private async frames(request: DataQueryRequest<never>, target: Target, isOneOfTables: boolean): Promise<DataFrame[]> {
    // As in Grafana's data source, the step is at least the scrape interval, and both ends of the range are aligned to it.
    const step = Math.max(request.intervalMs, this.scrape);
    const [from, to] = [request.range.from, request.range.to].map((end) => Math.floor(end.valueOf() / step) * step);
    const expr = this.expression(request.scopedVars, target.expr, step, to - from);
    const end = String(to / 1000);
    const range = { query: expr, start: String(from / 1000), end, step: String(step / 1000) };
    const found = await (target.instant ? ask('query', { query: expr, time: end }) : ask('query_range', range));
    const list: (Partial<Series> & { value?: [number, string] })[] =
      found.resultType === 'scalar' ? [{ value: found.result }] : found.result;
    const series = list.map(({ metric = {}, values, value }) => ({ metric, values: values ?? (value ? [value] : []) }));
    this.asked.push({ expr, series: series.length });
    switch (target.format) {
      case 'table':
        return [table(target, series, isOneOfTables)];
      case 'heatmap':
        return heatmap(target, series, step);
      default:
        return series.map((one) => line(target, one, step));
    }
  }

  private expression(scoped: ScopedVars, expr: string, step: number, range: number) {
    const rate = Math.max(step + this.scrape, 4 * this.scrape);
    const built = { __interval: step, __range: range, __rate_interval: rate };
    const variables = Object.fromEntries(
      Object.entries(built).map(([name, time]) => [name, { text: seconds(time), value: seconds(time) }]),
    );
    const scene: SceneObject = scoped.__sceneObject?.value.valueOf();
    return interpolated(scene, expr, { ...scoped, ...variables });
  }

  /** The values of a variable of the form `label_values(selector, label)`. */
  async metricFindQuery(query: string | { query: string }, options?: { scopedVars?: ScopedVars }): Promise<MetricFindValue[]> {
    const text = typeof query === 'string' ? query : query.query;
    const scoped = options?.scopedVars ?? {};
    const scene: SceneObject | undefined = scoped.__sceneObject?.value.valueOf();
    const [, selector, label] = text.match(/^label_values\((.+),\s*(\w+)\)$/) ?? [];
    if (!selector) {
      throw new Error(`${text} is not of the form label_values(selector, label)`);
    }
    const match = scene ? interpolated(scene, selector, scoped) : selector;
    const reply = await fetch(`/prometheus/api/v1/label/${label}/values?${new URLSearchParams({ 'match[]': match })}`);
    const { data } = await reply.json();
    return data.map((value: string) => ({ text: value }));
  }
}

/** Interpolates variables. Multiple values become one regular expression. */
function interpolated(scene: SceneObject, text: string, scoped: ScopedVars) {
  const escape = (value: unknown) => String(value).replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&');
  const several = (value: unknown) => (Array.isArray(value) ? `(${value.map(escape).join('|')})` : String(value));
  return sceneGraph.interpolate(scene, text, scoped, several);
}

function line(target: Target, { metric, values }: Series, step: number) {
  const { __name__: name, ...labels } = metric;
  const legend = target.legendFormat?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '');
  return toDataFrame({
    refId: target.refId,
    name: legend,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step }, values: values.map(([at]) => at * 1000) },
      {
        name: name ?? 'Value',
        type: FieldType.number,
        labels,
        config: legend ? { displayNameFromDS: legend } : {},
        values: values.map(([, value]) => number(value)),
      },
    ],
  });
}

function table(target: Target, series: Series[], isOneOfTables: boolean) {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const rows = series.flatMap(({ metric, values }) => values.map(([at, value]) => ({ metric, at, value })));
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: rows.map(({ at }) => at * 1000) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: rows.map(({ metric }) => metric[name] ?? '') })),
      {
        name: isOneOfTables ? `Value #${target.refId}` : 'Value',
        type: FieldType.number,
        values: rows.map(({ value }) => number(value)),
      },
    ],
  });
}

/** Converts cumulative histogram buckets (`le`) to one field per bucket. */
function heatmap(target: Target, series: Series[], step: number) {
  const buckets = series.filter(({ metric }) => metric.le).sort((a, b) => number(a.metric.le) - number(b.metric.le));
  const times = [...new Set(buckets.flatMap(({ values }) => values.map(([at]) => at)))].sort((a, b) => a - b);
  const sums = buckets.map(({ values }) => new Map(values.map(([at, value]) => [at, number(value)])));
  const own = (bucket: number, at: number) => (sums[bucket].get(at) ?? 0) - (sums[bucket - 1]?.get(at) ?? 0);
  const fields = buckets.map(({ metric }, bucket) => ({
    name: metric.le,
    type: FieldType.number,
    values: times.map((at) => Math.max(0, own(bucket, at))),
  }));
  const time = { name: 'Time', type: FieldType.time, config: { interval: step }, values: times.map((at) => at * 1000) };
  return buckets.length ? [toDataFrame({ refId: target.refId, fields: [time, ...fields] })] : [];
}
