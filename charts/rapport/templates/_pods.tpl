{{/* What the Pod Security Standard `restricted` asks of a pod, and more. */}}
{{- define "rapport.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priority.className }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "rapport.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* One variable out of the Secret of database URLs. Arguments: root, variable, key. */}}
{{- define "rapport.databaseUrl" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 0).Values.database.existingSecret }}
      key: {{ index . 2 }}
{{- end }}

{{/* Seconds from the deletion of a pod to its end at the latest. */}}
{{- define "rapport.terminationSeconds" -}}
{{- with .Values.drain -}}
{{ add .preStopSeconds .unreadySeconds .graceSeconds 5 }}
{{- end }}
{{- end }}

{{/* Where a volume of a service is mounted. Argument: one of .volumes. */}}
{{- define "rapport.mountPath" -}}
/var/lib/rapport/{{ . }}
{{- end }}

{{/* A volume of a service. Arguments: root, one of .volumes. */}}
{{- define "rapport.volume" -}}
{{- $root := index . 0 -}}
- name: {{ index . 1 }}
{{- if eq (index . 1) "archive" }}
  {{- include "rapport.archive" $root | nindent 2 }}
{{- else if eq (index . 1) "master" }}
  secret:
    secretName: {{ $root.Values.masterKey.existingSecret }}
    defaultMode: 0440
{{- else }}
  emptyDir:
    sizeLimit: 2Gi
{{- end }}
{{- end }}

{{- define "rapport.archive" -}}
{{- if .Values.archive.enabled -}}
persistentVolumeClaim:
  claimName: archive
{{- else -}}
emptyDir:
  sizeLimit: 2Gi
{{- end }}
{{- end }}
