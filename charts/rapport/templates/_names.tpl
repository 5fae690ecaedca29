{{/* Labels that never change: selectors are made of them. Arguments: root, component. */}}
{{- define "rapport.selector" -}}
app.kubernetes.io/name: rapport
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels. Arguments: root, component. */}}
{{- define "rapport.labels" -}}
{{ include "rapport.selector" . }}
app.kubernetes.io/part-of: rapport
app.kubernetes.io/version: {{ include "rapport.tag" (index . 0) | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{/* Labels of what belongs to no component. */}}
{{- define "rapport.commonLabels" -}}
app.kubernetes.io/name: rapport
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: rapport
app.kubernetes.io/version: {{ include "rapport.tag" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "rapport.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Arguments: root, image's noun. */}}
{{- define "rapport.image" -}}
{{- $root := index . 0 -}}
{{ with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}rapport/{{ index . 1 }}:{{ include "rapport.tag" $root }}
{{- end }}

{{/* RAPPORT_<SERVICE>. Argument: the service. */}}
{{- define "rapport.prefix" -}}
RAPPORT_{{ upper . }}
{{- end }}
