{{/* Ready: this pod can do its part. Argument: whether it speaks HTTP. */}}
{{- define "rapport.isReady" -}}
{{- if . -}}
httpGet:
  path: /health/ready
  port: http
{{- else -}}
grpc:
  port: 50051
{{- end }}
{{- end }}

{{/* Lives: a restart would mend nothing. */}}
{{- define "rapport.lives" -}}
{{- if . -}}
httpGet:
  path: /health/live
  port: http
{{- else -}}
grpc:
  port: 50051
  service: live
{{- end }}
{{- end }}
