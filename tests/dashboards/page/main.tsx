// Renders a dashboard with Grafana's scenes library and data of a Prometheus. Parameters of the URL: `dashboard` (a path),
// `scrape` (seconds), `from`, and values of variables by name. `window.drawn` has the state of the panels, and the parts of
// the dashboard that this page does not support, for draw.mjs.
import './boot';
import { theme } from './application';
import { FieldType, ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import {
  ConstantVariable,
  CustomVariable,
  EmbeddedScene,
  QueryVariable,
  SceneControlsSpacer,
  SceneDataTransformer,
  SceneGridItem,
  SceneGridLayout,
  SceneGridRow,
  sceneGraph,
  SceneQueryRunner,
  SceneTimePicker,
  SceneTimeRange,
  sceneUtils,
  SceneVariableSet,
  VariableValueSelectors,
  VizPanel,
} from '@grafana/scenes';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import type { Dashboard } from '../dashboard';
import { kinds, registerPanels } from './panels';
import { Prometheus, SOURCE } from './source';

type Panel = Exclude<Dashboard['panels'][number], { type: 'row' }>;
type Variable = NonNullable<NonNullable<Dashboard['templating']>['list']>[number];

const asked = new URLSearchParams(location.search);
const datasource = { uid: SOURCE, type: SOURCE };
const cannot: string[] = [];

function variable(of: Variable) {
  const { name, label, type, includeAll, multi } = of as Variable & { name: string };
  const common = { name, label, isMulti: multi, includeAll, skipUrlSync: true };
  const given = asked.get(name);
  const value = given ?? (includeAll ? '$__all' : undefined);
  const chosen = value === undefined ? {} : { value, text: given ?? 'All' };
  switch (type) {
    case 'query':
      return new QueryVariable({ ...common, ...chosen, datasource, query: of.query as string, refresh: 2 });
    case 'datasource':
      return new CustomVariable({ name, label, query: 'Prometheus', value: 'Prometheus', text: 'Prometheus' });
    default:
      cannot.push(`variable ${name} of type ${type}`);
      return new ConstantVariable({ name, value: '' });
  }
}

function panel(of: Panel) {
  if (!kinds[of.type]) {
    cannot.push(`${of.title}: a panel of type ${of.type}`);
  }
  for (const key of ['repeat', 'timeFrom', 'timeShift', 'libraryPanel'] as const) {
    if (key in of) {
      cannot.push(`${of.title}: ${key}`);
    }
  }
  const queries = of.targets.map((target) => ({ ...target, datasource }));
  const { maxDataPoints, interval: minInterval } = of;
  const runner = new SceneQueryRunner({ datasource, queries, maxDataPoints, minInterval });
  const { transformations = [] } = of;
  const data = new SceneDataTransformer({ $data: runner, transformations: transformations as never });
  const { x, y, w: width, h: height } = of.gridPos;
  const body = new VizPanel({
    key: `panel-${of.id}`,
    title: of.title,
    description: of.description,
    pluginId: of.type,
    options: of.options,
    fieldConfig: of.fieldConfig as never,
    $data: transformations.length > 0 ? data : runner,
  });
  return new SceneGridItem({ x, y, width, height, body });
}

/** A panel belongs to the row before it. All rows are expanded. */
function rows(panels: Dashboard['panels']) {
  const top: (SceneGridItem | SceneGridRow)[] = [];
  let row: SceneGridRow | undefined;
  for (const one of panels) {
    if (one.type === 'row') {
      const children = one.panels.map(panel);
      row = new SceneGridRow({ title: one.title, y: one.gridPos.y, isCollapsed: false, children });
      top.push(row);
    } else if (row) {
      row.setState({ children: [...row.state.children, panel(one)] });
    } else {
      top.push(panel(one));
    }
  }
  return top;
}

function scene(dashboard: Dashboard) {
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from: asked.get('from') ?? 'now-15m', to: 'now', timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: (dashboard.templating?.list ?? []).map(variable) }),
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: new SceneGridLayout({ children: rows(dashboard.panels), isLazy: false }),
  });
}

await initPluginTranslations('dashboards', []);
const source = new Prometheus(Number(asked.get('scrape') ?? 15) * 1000);
sceneUtils.registerRuntimeDataSource({ dataSource: source });
registerPanels();
const dashboard: Dashboard = await (await fetch(asked.get('dashboard') ?? '')).json();
const shown = scene(dashboard);

/** The length of the longest run of finite numbers. A line needs at least two; a single point is not visible. */
function longest(values: unknown[]) {
  let [most, now] = [0, 0];
  for (const value of values) {
    now = Number.isFinite(value) ? now + 1 : 0;
    most = Math.max(most, now);
  }
  return most;
}

const panels = () =>
  sceneGraph.findAllObjects(shown, (object) => object instanceof VizPanel).map((object) => {
    const { key, title, pluginId, _pluginLoadError: broken } = (object as VizPanel).state;
    const { data } = sceneGraph.getData(object).state;
    const series = data?.series ?? [];
    const rows = series.reduce((sum, frame) => sum + frame.length, 0);
    const numbers = series.flatMap((frame) => frame.fields).filter((field) => field.type === FieldType.number);
    const isEmpty = pluginId === 'timeseries' && !numbers.some((field) => longest(field.values) > 1);
    const error = broken ?? data?.error?.message;
    return { key, title, pluginId, state: data?.state, error, rows, isEmpty };
  });
Object.assign(window, { drawn: { cannot, panels, asked: source.asked } });

document.title = dashboard.title;
createRoot(document.getElementById('root') as HTMLElement).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles isExtensionSidebarOpen={false} />
    <MemoryRouter>
      <h1 style={{ fontSize: 16, padding: '12px 16px 0' }}>{dashboard.title}</h1>
      <div style={{ padding: 16, display: 'flex', minHeight: '100vh' }}>
        <shown.Component model={shown} />
      </div>
      <PortalContainer />
    </MemoryRouter>
  </ThemeContext.Provider>,
);
