// What the application's first page leaves for the libraries to find. Import this before anything of Grafana's.
Object.assign(window, {
  grafanaBootData: {
    settings: { featureToggles: {}, buildInfo: { version: '0', env: 'production' }, datasources: {}, panels: {}, apps: {} },
    user: { language: 'en-US', locale: 'en-US', regionalFormat: 'en-US', timezone: 'utc', weekStart: 'monday' },
    navTree: [],
    assets: {},
  },
  __grafana_public_path__: '/public/',
});
