{{- /*
The values, with this chart's default for each missing section and key: with `helm upgrade --reuse-values` the values are
those of an earlier chart, which has no newer keys.
*/}}
{{- define "canopy.values" -}}
{{- $given := .Values }}
{{- $values := .Files.Get "files/values.yaml" | fromYaml }}
{{- range $section, $defaults := $values }}
{{- $whole := index $given $section | default dict | deepCopy }}
{{- range $key, $default := $defaults }}
{{- if not (hasKey $whole $key) }}
{{- $_ := set $whole $key $default }}
{{- end }}
{{- end }}
{{- $_ := set $values $section $whole }}
{{- end }}
{{- toYaml $values }}
{{- end }}

{{- define "canopy.image" -}}
{{- $images := .values.images -}}
{{ $images.registry }}canopy-{{ .name }}:{{ $images.tag | default .root.Chart.AppVersion }}
{{- with get ($images.digests | default dict) .name }}@{{ . }}{{ end }}
{{- end }}

{{- define "canopy.pullSecrets" -}}
{{- with .values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "canopy.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* The NetworkPolicy peer that may read metrics, as JSON. */}}
{{- define "canopy.prometheus" -}}
{{- $given := .values.networkPolicy.prometheus | default dict }}
{{- $namespaces := get $given "namespaceSelector" }}
{{- if not (kindIs "map" $namespaces) }}
{{- $namespaces = dict "matchLabels" (dict "kubernetes.io/metadata.name" "monitoring") }}
{{- end }}
{{- $pods := get $given "podSelector" }}
{{- if not (kindIs "map" $pods) }}
{{- $pods = dict "matchLabels" (dict "app.kubernetes.io/name" "prometheus") }}
{{- end }}
{{- dict "namespaceSelector" $namespaces "podSelector" $pods | toJson }}
{{- end }}

{{- /* The peers that may call predictors, as JSON for CANOPY_PREDICTOR_CALLERS. */}}
{{- define "canopy.callers" -}}
{{- $gateway := include "canopy.selector" (dict "root" .root "name" "gateway") | fromYaml }}
{{- $system := dict "matchLabels" (dict "kubernetes.io/metadata.name" .root.Release.Namespace) }}
{{- $gateways := dict "namespaceSelector" $system "podSelector" (dict "matchLabels" $gateway) }}
{{- $extra := (.values.networkPolicy.predictors | default dict).extraFrom | default list }}
{{- $predict := concat (list $gateways) $extra }}
{{- dict "predict" $predict "metrics" (list (include "canopy.prometheus" . | fromJson)) | toJson }}
{{- end }}

{{- define "canopy.selector" -}}
app.kubernetes.io/name: canopy-{{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "canopy.labels" -}}
{{ include "canopy.selector" . }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: canopy
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "canopy.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "canopy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "canopy.spread" -}}
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "canopy.selector" . | nindent 6 }}
{{- end }}

{{- define "canopy.tracing" -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .ratio | quote }}
{{- end }}

{{- define "canopy.log" -}}
- name: CANOPY_LOG_CONTROL
  value: {{ .logControl | default false | quote }}
{{- with .log }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "canopy.probes" -}}
readinessProbe:
  httpGet: {path: /ready, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /live, port: admin}
  periodSeconds: 10
  timeoutSeconds: 2
{{- end }}
