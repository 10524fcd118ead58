// The kinds of panels that dashboard.ts allows. Grafana's packages do not contain its panels, so these are thin ones, built
// from the same components of @grafana/ui.
import {
  cacheFieldDisplayNames,
  type DataFrame,
  FieldColorModeId,
  FieldType,
  formattedValueToString,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  getValueFormat,
  identityOverrideProcessor,
  PanelPlugin,
  type PanelProps,
} from '@grafana/data';
import { sceneUtils } from '@grafana/scenes';
import { AxisPlacement, ScaleDirection, ScaleDistribution, ScaleOrientation } from '@grafana/schema';
import { BigValue, TimeSeries, UPlotChart, UPlotConfigBuilder, useTheme2, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { type ComponentType, useMemo } from 'react';
import { option } from './application';

// biome-ignore lint: dashboard.ts checks the options of a panel.
type Props = PanelProps<any>;

const Nothing = () => <div data-nothing>No data</div>;
const plain = ((text: string) => text) as never;

/** Replaces values that are not numbers by gaps, as Grafana's application does. */
function withGaps(frame: DataFrame) {
  const gaps = (values: unknown[]) => values.map((value) => (Number.isFinite(value) ? value : null));
  const field = (one: DataFrame['fields'][number]) =>
    one.type === FieldType.number ? { ...one, values: gaps(one.values) } : one;
  return { ...frame, fields: frame.fields.map(field) };
}

function Lines({ data, options, timeRange, timeZone, width, height }: Props) {
  const frames = useMemo(() => data.series.filter((frame) => frame.length > 0).map(withGaps), [data.series]);
  if (frames.length === 0) {
    return <Nothing />;
  }
  const size = { width, height };
  const when = { timeRange, timeZone };
  return (
    <TimeSeries {...size} {...when} frames={frames} legend={options.legend} options={options} replaceVariables={plain}>
      {() => null}
    </TimeSeries>
  );
}

function Stat({ data, options, fieldConfig, replaceVariables, timeZone, width, height, renderCounter }: Props) {
  const theme = useTheme2();
  const { reduceOptions, orientation } = options;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig,
      reduceOptions,
      replaceVariables,
      theme,
      data: data.series,
      sparkline: options.graphMode !== 'none',
      timeZone,
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      source={data}
      autoGrid
      {...{ width, height, orientation, renderCounter }}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          disableWideLayout={!options.wideLayout}
          {...{ alignmentFactors, width, height, count, theme }}
        />
      )}
    />
  );
}

function Table({ data, options, fieldConfig, timeRange, width, height }: Props) {
  const [frame] = data.series;
  if (!frame?.length) {
    return <Nothing />;
  }
  // The table headers read the cached names.
  cacheFieldDisplayNames(data.series);
  const { sortBy, cellHeight } = options;
  const { structureRev } = data;
  return <TableNG data={frame} {...{ width, height, sortBy, cellHeight, timeRange, fieldConfig, structureRev }} />;
}

/** ColorBrewer's Oranges from low to high on a dark background, the only colour scheme of these dashboards. */
const ORANGES = [
  [127, 39, 4],
  [253, 141, 60],
  [255, 245, 235],
];

function colour(share: number) {
  const [half, within] = share < 0.5 ? [0, share * 2] : [1, share * 2 - 1];
  const mixed = ORANGES[half].map((from, part) => Math.round(from + (ORANGES[half + 1][part] - from) * within));
  return `rgb(${mixed.join()})`;
}

function Heatmap({ data, options, timeRange, timeZone, width, height }: Props) {
  const theme = useTheme2();
  const [frame] = data.series;
  const config = useMemo(
    () => frame && heatmap(frame, { options, timeRange, timeZone, height, theme }),
    [frame, options, timeRange, timeZone, height, theme],
  );
  if (!config?.prepData) {
    return <Nothing />;
  }
  return <UPlotChart {...{ config, width, height }} data={config.prepData([frame])} />;
}

type Around = Pick<Props, 'options' | 'timeRange' | 'timeZone' | 'height'> & { theme: ReturnType<typeof useTheme2> };

function heatmap(frame: DataFrame, { options, timeRange, timeZone, height, theme }: Around) {
  const buckets = frame.fields.filter((field) => field.type === FieldType.number);
  const builder = new UPlotConfigBuilder(timeZone);
  const ends: [number, number] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  builder.addScale({
    scaleKey: 'x',
    isTime: true,
    orientation: ScaleOrientation.Horizontal,
    direction: ScaleDirection.Right,
    range: () => ends,
  });
  builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, theme, timeZone });
  builder.addScale({
    scaleKey: 'y',
    isTime: false,
    distribution: ScaleDistribution.Linear,
    orientation: ScaleOrientation.Vertical,
    direction: ScaleDirection.Up,
    range: [0, buckets.length],
  });
  const format = getValueFormat(options.yAxis.unit);
  // Show as many bucket bounds as fit.
  const every = Math.ceil(buckets.length / Math.max(1, Math.floor(height / 22)));
  const bound = (row: number) => {
    const name = buckets[row - 1]?.name ?? '';
    return Number.isFinite(Number(name)) && name ? formattedValueToString(format(Number(name))) : name;
  };
  builder.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: () => buckets.map((_, row) => row + 1).filter((row) => row % every === 0),
    formatValue: (row: number) => bound(row),
  } as never);
  builder.addSeries({ scaleKey: 'y', pathBuilder: () => null, theme } as never);
  builder.setPrepData(([one]) => [one.fields[0].values, one.fields[1].values] as never);
  const most = Math.max(...buckets.flatMap(({ values }) => values));
  builder.addHook('draw', (plot) => {
    const [{ values: times, config }] = frame.fields;
    const { left, top, width: wide, height: high } = plot.bbox;
    plot.ctx.save();
    plot.ctx.beginPath();
    plot.ctx.rect(left, top, wide, high);
    plot.ctx.clip();
    buckets.forEach(({ values }, row) => {
      const [bottom, above] = [plot.valToPos(row, 'y', true), plot.valToPos(row + 1, 'y', true)];
      times.forEach((time, column) => {
        if (values[column] > options.filterValues.le) {
          const [from, to] = [time - (config.interval ?? 0), time].map((at) => plot.valToPos(at, 'x', true));
          plot.ctx.fillStyle = colour((values[column] / most) ** options.color.exponent);
          plot.ctx.fillRect(from, above, Math.max(1, to - from - options.cellGap), bottom - above - options.cellGap);
        }
      });
    });
    plot.ctx.restore();
  });
  return builder;
}

/** Grafana's defaults for the custom options of time series. */
const series = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  lineStyle: { fill: 'solid' },
  spanNulls: false,
  showPoints: 'auto',
  pointSize: 5,
  stacking: { mode: 'none', group: 'A' },
  axisPlacement: 'auto',
  axisLabel: '',
  axisColorMode: 'text',
  axisBorderShow: false,
  axisCenteredZero: false,
  axisSoftMin: undefined,
  axisSoftMax: undefined,
  barAlignment: 0,
  barWidthFactor: 0.6,
  scaleDistribution: { type: 'linear' },
  hideFrom: { tooltip: false, viz: false, legend: false },
  thresholdsStyle: { mode: 'off' },
  insertNulls: false,
};
const cells = {
  align: 'auto',
  width: undefined,
  minWidth: undefined,
  cellOptions: { type: 'auto' },
  filterable: undefined,
  hideFrom: { viz: false },
};

interface Kind {
  panel: ComponentType<Props>;
  custom: Record<string, unknown>;
  colour: FieldColorModeId;
}

export const kinds: Record<string, Kind> = {
  timeseries: { panel: Lines, custom: series, colour: FieldColorModeId.PaletteClassic },
  stat: { panel: Stat, custom: {}, colour: FieldColorModeId.Thresholds },
  table: { panel: Table, custom: cells, colour: FieldColorModeId.Thresholds },
  heatmap: { panel: Heatmap, custom: { hideFrom: {}, scaleDistribution: {} }, colour: FieldColorModeId.Thresholds },
};

export function registerPanels() {
  for (const [pluginId, { panel, custom, colour }] of Object.entries(kinds)) {
    const plugin = new PanelPlugin(panel).useFieldConfig({
      standardOptions: { color: { settings: {}, defaultValue: { mode: colour } } } as never,
      useCustomConfig: (builder) => {
        for (const [id, value] of Object.entries(custom)) {
          builder.addCustomEditor(option(id, identityOverrideProcessor, value) as never);
        }
      },
    });
    sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
  }
}
