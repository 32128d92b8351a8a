{{/* Where the broker's address comes from: always a Secret that is there already. Three parts of a pod each. */}}

{{- define "focus.broker.secret" -}}
{{- with .Values.broker -}}
{{- if .rabbitmqCluster.name -}}{{ .rabbitmqCluster.name }}-default-user{{- else -}}{{ .existingSecret.name }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "focus.broker.composed" -}}
{{- with .Values.broker.rabbitmqCluster -}}
{{- if and .name .compose -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "focus.broker.env" -}}
{{- $secret := include "focus.broker.secret" . -}}
{{- if include "focus.broker.composed" . -}}
{{- range $variable, $key := dict "FOCUS_BROKER_HOST" "host" "FOCUS_BROKER_PASSWORD" "password" "FOCUS_BROKER_PORT" "port" "FOCUS_BROKER_USER" "username" }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}}
{{- end }}
- name: FOCUS_BROKER_URL
  value: {{ printf "%s://$(FOCUS_BROKER_USER):$(FOCUS_BROKER_PASSWORD)@$(FOCUS_BROKER_HOST):$(FOCUS_BROKER_PORT)/%s" .Values.broker.rabbitmqCluster.scheme .Values.broker.rabbitmqCluster.vhost | quote }}
{{- else -}}
- name: FOCUS_BROKER_URL_FILE
  value: /etc/focus/broker/url
{{- end }}
{{- with .Values.broker.ca.existingSecret }}
- name: FOCUS_BROKER_CA
  value: /etc/focus/broker-ca/ca.crt
{{- end }}
{{- with .Values.broker.clientCertificate.existingSecret }}
- name: FOCUS_BROKER_CERT
  value: /etc/focus/broker-client/tls.crt
- name: FOCUS_BROKER_KEY
  value: /etc/focus/broker-client/tls.key
{{- end }}
{{- end -}}

{{- define "focus.broker.mounts" -}}
{{- if not (include "focus.broker.composed" .) }}
- name: broker
  mountPath: /etc/focus/broker
  readOnly: true
{{- end }}
{{- if .Values.broker.ca.existingSecret }}
- name: broker-ca
  mountPath: /etc/focus/broker-ca
  readOnly: true
{{- end }}
{{- if .Values.broker.clientCertificate.existingSecret }}
- name: broker-client
  mountPath: /etc/focus/broker-client
  readOnly: true
{{- end }}
{{- end -}}

{{- define "focus.broker.volumes" -}}
{{- if not (include "focus.broker.composed" .) }}
- name: broker
  secret:
    secretName: {{ include "focus.broker.secret" . }}
    defaultMode: 0440
    items:
      - key: {{ ternary "connection_string" .Values.broker.existingSecret.key (not (empty .Values.broker.rabbitmqCluster.name)) }}
        path: url
{{- end }}
{{- with .Values.broker.ca }}
{{- if .existingSecret }}
- name: broker-ca
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- with .Values.broker.clientCertificate.existingSecret }}
- name: broker-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}
