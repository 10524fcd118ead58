// Initialises Grafana's libraries as Grafana's application does at start: theme, registries and the query runner. Import it
// before the libraries are used.
import {
  booleanOverrideProcessor,
  createTheme,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  EventBusSrv,
  type FieldConfigPropertyItem,
  identityOverrideProcessor,
  LoadingState,
  numberOverrideProcessor,
  type PanelData,
  setTimeZoneResolver,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  stringOverrideProcessor,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import {
  config,
  setAppEvents,
  setBackendSrv,
  setDataSourceSrv,
  setPluginImportUtils,
  setRunRequest,
  setTemplateSrv,
} from '@grafana/runtime';
import { Observable } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });

/** The standard field options, by their key in `FieldConfig`, with their override processors. */
const standard = {
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  color: identityOverrideProcessor,
  noValue: stringOverrideProcessor,
  links: dataLinksOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  filterable: booleanOverrideProcessor,
};
const defaults: Record<string, unknown> = {
  mappings: [],
  thresholds: { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }] },
};

/** A field option without an editor. */
export function option(id: string, process: unknown, defaultValue?: unknown) {
  const none = () => null;
  return { id, path: id, name: id, process, defaultValue, editor: none, override: none, shouldApply: () => true };
}

Object.assign(config, { theme2: theme, timezone: 'utc', defaultDatasource: 'prometheus' });
setTimeZoneResolver(() => 'utc');
setAppEvents(new EventBusSrv());
standardFieldConfigEditorRegistry.setInit(
  () =>
    Object.entries(standard).map(([id, process]) => ({
      ...option(id, process, defaults[id]),
      category: ['Standard options'],
    })) as unknown as FieldConfigPropertyItem[],
);
// Some transformers are listed under two names.
const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(
  () =>
    [...transformers.values()].map((one) => ({
      id: one.id,
      name: one.name,
      description: '',
      transformation: async () => one,
      editor: () => null,
    })) as never,
);
setRunRequest(
  (source, request) =>
    new Observable<PanelData>((to) => {
      const asked = { request, timeRange: request.range, annotations: [] };
      to.next({ ...asked, state: LoadingState.Loading, series: [] });
      Promise.resolve(source.query(request) as never as Promise<{ data: [] }>).then(
        ({ data }) => to.next({ ...asked, state: LoadingState.Done, series: data }),
        (error: Error) =>
          to.next({ ...asked, state: LoadingState.Error, series: [], error: { message: error.message } }),
      ).finally(() => to.complete());
    }),
);

const refuse = (what: string) => async () => Promise.reject(new Error(`there is no ${what}`));
setPluginImportUtils({ importPanelPlugin: refuse('such panel'), getPanelPluginFromCache: () => undefined });
setDataSourceSrv({ get: refuse('other data source'), getList: () => [], getInstanceSettings: () => undefined } as never);
setTemplateSrv({ getVariables: () => [], replace: (text = '') => text, containsTemplate: () => false } as never);
setBackendSrv({ get: async () => ({}), post: async () => ({}), fetch: () => new Observable((to) => to.complete()) } as never);
