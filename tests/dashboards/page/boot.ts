// Sets the global boot data that Grafana's libraries read when they are loaded. Import it before any of them.
Object.assign(window, {
  grafanaBootData: {
    settings: { featureToggles: {}, buildInfo: { version: '0', env: 'production' }, datasources: {}, panels: {}, apps: {} },
    user: { language: 'en-US', locale: 'en-US', regionalFormat: 'en-US', timezone: 'utc', weekStart: 'monday' },
    navTree: [],
    assets: {},
  },
  __grafana_public_path__: '/public/',
});
