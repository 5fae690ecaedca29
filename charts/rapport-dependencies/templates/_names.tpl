{{/* Arguments: root, component. */}}
{{- define "dependencies.selector" -}}
app.kubernetes.io/name: rapport-dependencies
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Arguments: root, component. */}}
{{- define "dependencies.labels" -}}
{{ include "dependencies.selector" . }}
app.kubernetes.io/part-of: rapport
app.kubernetes.io/version: {{ include "dependencies.tag" (index . 0) | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- define "dependencies.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Arguments: root, image's noun. */}}
{{- define "dependencies.image" -}}
{{- $root := index . 0 -}}
{{ with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}rapport/{{ index . 1 }}:{{ include "dependencies.tag" $root }}
{{- end }}

{{/* What the Pod Security Standard `restricted` asks of a pod, and more. */}}
{{- define "dependencies.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # Not at each start: PostgreSQL refuses a folder that a group may write to.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "dependencies.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The services of charts/rapport, each with a role of its own in PostgreSQL. */}}
{{- define "dependencies.services" -}}
[gateway, profiles, segmentation, scoring, recommendation, feedback, evaluation]
{{- end }}
