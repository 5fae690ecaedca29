{{/* The rule of a network policy that lets names be looked up. */}}
{{- define "rapport.nameService" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* What one component may call, names first. Arguments: root, component, its edges, annotations. */}}
{{- define "rapport.egressPolicy" }}
{{- $root := index . 0 }}
{{- $from := index . 1 }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $root.Release.Name }}-from-{{ $from }}
  labels:
    {{- include "rapport.labels" (list $root $from) | nindent 4 }}
  {{- if gt (len .) 3 }}
  annotations:
    {{- toYaml (index . 3) | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "rapport.selector" (list $root $from) | nindent 6 }}
  policyTypes: [Egress]
  egress:
    {{- include "rapport.nameService" $root | nindent 4 }}
    {{- range index . 2 }}
    - to:
        {{- include "rapport.peers" (list $root .to "rapport.io/serves") | nindent 8 }}
      ports:
        - {protocol: TCP, port: {{ int .port }}}
    {{- end }}
{{- end }}
