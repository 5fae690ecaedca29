{{/* All settings of a service that are no secret, as one map. Arguments: root, service. */}}
{{- define "rapport.settings" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $spec := get $root.Values.services $service -}}
{{- $prefix := include "rapport.prefix" $service -}}
{{- $settings := dict "METRICS_LISTEN" "0.0.0.0:9090" "VERSION" (include "rapport.tag" $root) -}}
{{- if eq $service "gateway" -}}
{{- $_ := merge $settings (dict "HOST" "0.0.0.0" "PORT" "8080") -}}
{{- else -}}
{{- $_ := set $settings "LISTEN" "0.0.0.0:50051" -}}
{{- end -}}
{{- if eq $service "profiles" -}}
{{- $_ := set $settings "IMPORT_FOLDER" (printf "%s/_imports" (include "rapport.mountPath" "archive")) -}}
{{- $_ := set $settings "DATABASE_CAPACITY_BYTES" ($root.Values.database.capacityBytes | int64 | toString) -}}
{{- end -}}
{{- $_ := set $settings "DATABASE_CONNECTIONS" (toString $spec.databaseConnections) -}}
{{- $_ := set $settings "LOG_LEVEL" $root.Values.logLevel -}}
{{- $_ := set $settings "UNREADY_S" (toString $root.Values.drain.unreadySeconds) -}}
{{- $_ := set $settings "GRACE_S" (toString $root.Values.drain.graceSeconds) -}}
{{- $_ := set $settings "CONNECTION_AGE_S" (toString $root.Values.connectionAgeSeconds) -}}
{{- range include "rapport.edges" $root | fromYamlArray -}}
{{- if eq .from $service -}}
{{- if hasKey $root.Values.services .to -}}
{{- $_ := set $settings (printf "%s_TARGET" (upper .to)) (printf "dns:///%s:50051" .to) -}}
{{- else if (get $root.Values.outside .to).url -}}
{{- $_ := set $settings (printf "%s_URL" (upper .to)) (get $root.Values.outside .to).url -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $root.Values.oidc.issuer (eq $service "gateway") -}}
{{- with $root.Values.oidc -}}
{{- $claims := dict "OIDC_TENANT_CLAIM" .tenantClaim "OIDC_ROLES_CLAIM" .rolesClaim -}}
{{- $_ := merge $settings (dict "OIDC_ISSUER" .issuer "OIDC_AUDIENCE" .audience "PUBLIC_URL" .publicUrl) $claims -}}
{{- end -}}
{{- end -}}
{{- if and (eq $root.Values.log.source "kafka") (has $service (include "rapport.readers" . | fromYamlArray)) -}}
{{- $_ := merge $settings (dict "LOG" "kafka") (include "rapport.kafkaSettings" $root | fromYaml) -}}
{{- end -}}
{{- range $spec.volumes -}}
{{- $name := get (dict "archive" "ARCHIVE_FOLDER" "models" "MODEL_FOLDER" "master" "MASTER_KEY_FILE") . -}}
{{- $_ := set $settings $name (printf "%s%s" (include "rapport.mountPath" .) (ternary "/master.key" "" (eq . "master"))) -}}
{{- end -}}
{{- range $name, $value := $spec.settings -}}
{{- $_ := set $settings (upper $name) (toString $value) -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{ $prefix }}_{{ $name }}: {{ $value | quote }}
{{- end }}
{{- with $root.Values.tracing }}
{{- if .endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_TRACES_SAMPLER: parentbased_traceidratio
OTEL_TRACES_SAMPLER_ARG: {{ .ratio | quote }}
{{- end }}
{{- end }}
{{- end }}
