{{- define "rapport.migrationContainer" -}}
image: {{ include "rapport.image" (list . "migrate") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "rapport.databaseUrl" (list . "RAPPORT_MIGRATE_URL" "owner") | nindent 2 }}
resources:
  {{- toYaml .Values.migration.resources | nindent 2 }}
{{ include "rapport.containerSecurity" . }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* The head of a CronJob down to its pod's security. Arguments: root, component, name, values with schedule. */}}
{{- define "rapport.cronJobHead" }}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $spec := index . 3 }}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ index . 2 }}
  labels:
    {{- include "rapport.labels" (list $root $component) | nindent 4 }}
spec:
  schedule: {{ $spec.schedule | default "0 0 1 1 *" | quote }}
  timeZone: Etc/UTC
  {{- if eq $component "journey" }}
  suspend: true
  {{- end }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: {{ ternary 0 2 (eq $component "journey") }}
      activeDeadlineSeconds: {{ $spec.deadlineSeconds }}
      template:
        metadata:
          labels:
            {{- include "rapport.labels" (list $root $component) | nindent 12 }}
            {{- if eq $component "journey" }}
            rapport.io/serves: scoring
            {{- end }}
        spec:
          restartPolicy: Never
          {{- include "rapport.podSecurity" $root | nindent 10 }}
{{- end }}

{{/* The end of a CronJob's container. Arguments: root, values with resources. */}}
{{- define "rapport.jobContainer" -}}
imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml (index . 1).resources | nindent 2 }}
{{ include "rapport.containerSecurity" (index . 0) }}
{{- end }}
