{{/* The services that follow the event log, each of them in Kafka where log.source is kafka. */}}
{{- define "rapport.readers" -}}
[segmentation, scoring, recommendation, feedback, evaluation]
{{- end }}

{{/* The settings of a process that speaks to Kafka, as one map. Argument: root. */}}
{{- define "rapport.kafkaSettings" -}}
{{- with .Values.outside.kafka -}}
KAFKA_BROKERS: {{ .brokers | quote }}
KAFKA_TOPIC: {{ $.Values.log.topic | quote }}
{{- if ne .security "PLAINTEXT" }}
KAFKA_SECURITY: {{ .security }}
{{- with .ca.existingSecret }}
KAFKA_CA_FILE: {{ include "rapport.mountPath" "kafka" }}/ca.crt
{{- end }}
{{- with .certificate.existingSecret }}
KAFKA_CERTIFICATE_FILE: {{ include "rapport.mountPath" "kafka" }}/user.crt
KAFKA_KEY_FILE: {{ include "rapport.mountPath" "kafka" }}/user.key
{{- end }}
{{- end }}
{{- if eq .security "SASL_SSL" }}
KAFKA_SASL_MECHANISM: {{ .sasl.mechanism }}
KAFKA_USER: {{ .sasl.user | quote }}
KAFKA_PASSWORD_FILE: {{ include "rapport.mountPath" "kafka" }}/password
{{- end }}
{{- end }}
{{- end }}

{{/* Whether there is anything to mount for Kafka. Argument: root. */}}
{{- define "rapport.kafkaIsSecret" -}}
{{- with .Values.outside.kafka -}}
{{- if or .ca.existingSecret .certificate.existingSecret .sasl.existingSecret -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether a component speaks to Kafka and has something mounted for it. Arguments: root, component. */}}
{{- define "rapport.mountsKafka" -}}
{{- $root := index . 0 -}}
{{- $readers := append (include "rapport.readers" $root | fromYamlArray) "journey" -}}
{{- if and (include "rapport.kafkaIsSecret" $root) (eq $root.Values.log.source "kafka") (has (index . 1) $readers) -}}true{{- end -}}
{{- end }}

{{/* The files for Kafka, out of up to three Secrets. Argument: root. */}}
{{- define "rapport.kafkaVolume" -}}
{{- with .Values.outside.kafka -}}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- if .ca.existingSecret }}
      - secret:
          name: {{ .ca.existingSecret }}
          items:
            - {key: {{ .ca.key }}, path: ca.crt}
      {{- end }}
      {{- if .certificate.existingSecret }}
      - secret:
          name: {{ .certificate.existingSecret }}
          items:
            - {key: {{ .certificate.certificateKey }}, path: user.crt}
            - {key: {{ .certificate.privateKey }}, path: user.key}
      {{- end }}
      {{- if .sasl.existingSecret }}
      - secret:
          name: {{ .sasl.existingSecret }}
          items:
            - {key: {{ .sasl.key }}, path: password}
      {{- end }}
{{- end }}
{{- end }}

{{- define "rapport.kafkaMount" -}}
- {name: kafka, mountPath: {{ include "rapport.mountPath" "kafka" }}, readOnly: true}
{{- end }}
