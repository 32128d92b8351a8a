{{/* Parts of a NetworkPolicy. */}}

{{- define "focus.policy.ports" -}}
{{- range . }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end -}}

{{- define "focus.policy.dns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{/* Ports with the peers on the other side, if they are named: (dict "ports" (list …) "peers" (list …) "way" "from") */}}
{{- define "focus.policy.rule" -}}
- ports:
    {{- include "focus.policy.ports" .ports | trim | nindent 4 }}
  {{- with .peers }}
  {{ $.way }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What the pods of hooks may do: nobody comes in, and they reach names and the API server. */}}
{{- define "focus.policy.hooks" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
    app.kubernetes.io/instance: {{ .Release.Name }}
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: [setup, test]}
policyTypes: [Ingress, Egress]
ingress: []
egress:
  {{- include "focus.policy.dns" . | nindent 2 }}
  {{- include "focus.policy.rule" (dict "way" "to" "ports" .Values.networkPolicy.apiServerPorts "peers" .Values.networkPolicy.apiServerTo) | nindent 2 }}
{{- end -}}

{{/* The port of the receiver of traces. */}}
{{- define "focus.policy.tracingPort" -}}
{{- $address := urlParse .Values.tracing.otlpEndpoint -}}
{{- regexFind ":[0-9]+$" $address.host | trimPrefix ":" | default (ternary "443" "80" (eq $address.scheme "https")) -}}
{{- end -}}
