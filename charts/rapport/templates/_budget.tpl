{{/* Most pods of a service: what the autoscaler may ask for, else the replicas. Arguments: root, the service's values. */}}
{{- define "rapport.mostReplicas" -}}
{{- $root := index . 0 -}}
{{- $spec := index . 1 -}}
{{- if and $root.Values.autoscaling.enabled $spec.autoscaling -}}
{{ $spec.autoscaling.maxReplicas }}
{{- else -}}
{{ $spec.replicas }}
{{- end -}}
{{- end }}

{{/*
Database connections at the worst moment: every service at its most replicas in the middle of a rollout, with one pod that is
new and (but where there is only one) one that drains, and all jobs.
*/}}
{{- define "rapport.connections" -}}
{{- $sum := 0 -}}
{{- range $service, $spec := .Values.services -}}
{{- $most := include "rapport.mostReplicas" (list $ $spec) | int -}}
{{- $sum = add $sum (mul (add $most (min $most 2)) $spec.databaseConnections) -}}
{{- end -}}
{{- /* What the jobs open: grants or migration 1, the test's keys 1, then as their code says. */ -}}
{{- $sum = add $sum 2 -}}
{{- if .Values.relay.enabled }}{{ $sum = add $sum (mul (add .Values.relay.replicas 1) 2) }}{{ end -}}
{{- if .Values.rescore.enabled }}{{ $sum = add $sum 2 }}{{ end -}}
{{- if .Values.recompute.enabled }}{{ $sum = add $sum 2 }}{{ end -}}
{{- if .Values.retention.enabled }}{{ $sum = add $sum (ternary 4 1 .Values.archive.enabled) }}{{ end -}}
{{- if .Values.journey.enabled }}{{ $sum = add $sum 1 .Values.services.scoring.databaseConnections }}{{ end -}}
{{ $sum }}
{{- end }}

{{- define "rapport.connectionsAllowed" -}}
{{ sub .Values.database.maxConnections .Values.database.reservedConnections }}
{{- end }}

{{- define "rapport.checkBudget" -}}
{{- $needed := include "rapport.connections" . | int -}}
{{- $allowed := include "rapport.connectionsAllowed" . | int -}}
{{- if gt $needed $allowed -}}
{{- fail (printf "\n\nThe services and jobs may open %d database connections at once, and database.maxConnections (%d) less database.reservedConnections (%d) allows %d: lower databaseConnections, replicas or autoscaling.maxReplicas of a service, or raise database.maxConnections with PostgreSQL's max_connections." $needed (int .Values.database.maxConnections) (int .Values.database.reservedConnections) $allowed) -}}
{{- end -}}
{{- end }}
