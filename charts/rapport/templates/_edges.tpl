{{/*
Who calls whom: the network policies and the services' targets are made of this table.
`to` is a service, or one of .Values.outside.
*/}}
{{- define "rapport.edges" -}}
- {from: gateway, to: profiles, port: 50051}
- {from: gateway, to: segmentation, port: 50051}
- {from: gateway, to: scoring, port: 50051}
- {from: gateway, to: recommendation, port: 50051}
- {from: gateway, to: feedback, port: 50051}
- {from: gateway, to: evaluation, port: 50051}
- {from: gateway, to: postgres, port: 5432}
- {from: profiles, to: postgres, port: 5432}
- {from: segmentation, to: profiles, port: 50051}
- {from: segmentation, to: postgres, port: 5432}
- {from: scoring, to: profiles, port: 50051}
- {from: scoring, to: postgres, port: 5432}
- {from: scoring, to: mlflow, port: {{ .Values.outside.mlflow.port }}}
- {from: recommendation, to: profiles, port: 50051}
- {from: recommendation, to: postgres, port: 5432}
- {from: feedback, to: profiles, port: 50051}
- {from: feedback, to: postgres, port: 5432}
- {from: evaluation, to: profiles, port: 50051}
- {from: evaluation, to: postgres, port: 5432}
- {from: evaluation, to: mlflow, port: {{ .Values.outside.mlflow.port }}}
- {from: evaluation, to: prometheus, port: {{ .Values.outside.prometheus.port }}}
- {from: migrate, to: postgres, port: 5432}
- {from: test, to: gateway, port: 8080}
- {from: test, to: profiles, port: 50051}
- {from: test, to: postgres, port: 5432}
- {from: clients, to: gateway, port: 8080}
- {from: prometheus, to: gateway, port: 9090}
- {from: prometheus, to: profiles, port: 9090}
- {from: prometheus, to: segmentation, port: 9090}
- {from: prometheus, to: scoring, port: 9090}
- {from: prometheus, to: recommendation, port: 9090}
- {from: prometheus, to: feedback, port: 9090}
- {from: prometheus, to: evaluation, port: 9090}
{{- if .Values.tracing.endpoint }}
- {from: gateway, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: profiles, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: segmentation, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: scoring, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: recommendation, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: feedback, to: collector, port: {{ .Values.outside.collector.port }}}
- {from: evaluation, to: collector, port: {{ .Values.outside.collector.port }}}
{{- end }}
{{- if .Values.oidc.issuer }}
- {from: gateway, to: provider, port: {{ .Values.outside.provider.port }}}
{{- end }}
{{- if eq .Values.log.source "kafka" }}
{{- range include "rapport.readers" . | fromYamlArray }}
- {from: {{ . }}, to: kafka, port: {{ $.Values.outside.kafka.port }}}
{{- end }}
{{- if .Values.journey.enabled }}
- {from: journey, to: kafka, port: {{ .Values.outside.kafka.port }}}
{{- end }}
{{- end }}
{{- if .Values.relay.enabled }}
- {from: relay, to: postgres, port: 5432}
- {from: relay, to: kafka, port: {{ .Values.outside.kafka.port }}}
- {from: prometheus, to: relay, port: 9090}
{{- end }}
{{- if .Values.rescore.enabled }}
- {from: rescore, to: profiles, port: 50051}
- {from: rescore, to: postgres, port: 5432}
- {from: rescore, to: mlflow, port: {{ .Values.outside.mlflow.port }}}
{{- end }}
{{- if .Values.recompute.enabled }}
- {from: recompute, to: profiles, port: 50051}
- {from: recompute, to: postgres, port: 5432}
{{- end }}
{{- if .Values.retention.enabled }}
- {from: retention, to: postgres, port: 5432}
{{- end }}
{{- if .Values.matching.enabled }}
- {from: matching, to: postgres, port: 5432}
{{- end }}
{{- if .Values.training.tenants }}
- {from: training, to: gateway, port: 8080}
- {from: training, to: mlflow, port: {{ .Values.outside.mlflow.port }}}
{{- end }}
{{- if .Values.journey.enabled }}
- {from: journey, to: gateway, port: 8080}
- {from: journey, to: profiles, port: 50051}
- {from: journey, to: postgres, port: 5432}
- {from: journey, to: mlflow, port: {{ .Values.outside.mlflow.port }}}
{{- end }}
{{- end }}

{{/* The peers of a network policy. Arguments: root, name, the label that finds pods of ours. */}}
{{- define "rapport.peers" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $outside := get $root.Values.outside $name -}}
{{- if $outside -}}
{{ toYaml $outside.peers }}
{{- else -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: rapport
      app.kubernetes.io/instance: {{ $root.Release.Name }}
      {{ index . 2 }}: {{ $name }}
{{- end }}
{{- end }}
