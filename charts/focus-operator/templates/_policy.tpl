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

{{/* The port of the receiver of traces. */}}
{{- define "focus.policy.tracingPort" -}}
{{- $address := urlParse .Values.tracing.otlpEndpoint -}}
{{- regexFind ":[0-9]+$" $address.host | trimPrefix ":" | default (ternary "443" "80" (eq $address.scheme "https")) -}}
{{- end -}}
