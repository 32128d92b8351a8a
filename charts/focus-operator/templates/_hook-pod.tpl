{{/* The pod of a hook: (dict "root" $ "name" … "account" … "args" (list …) "config" "name of a ConfigMap") */}}
{{- define "focus.hookPod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
{{- with include "focus.pullSecrets" .root | trim }}
{{ . }}
{{- end }}
{{- with include "focus.hookPlacement" .root | trim }}
{{ . }}
{{- end }}
securityContext:
  {{- include "focus.podSecurity" .root | nindent 2 }}
containers:
  - name: {{ .name }}
    image: {{ include "focus.image" (list .root .root.Values.image) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
    resources:
      {{- toYaml .root.Values.hooks.resources | nindent 6 }}
    securityContext:
      {{- include "focus.containerSecurity" .root | nindent 6 }}
    {{- with .config }}
    volumeMounts:
      - name: config
        mountPath: /config
        readOnly: true
    {{- end }}
{{- with .config }}
volumes:
  - name: config
    configMap:
      name: {{ . }}
{{- end }}
{{- end -}}

{{/* A service account of a hook and what it may do: (dict "root" $ "event" … "account" … "component" … "namespace" … "rules" …) */}}
{{- define "focus.hookRights" -}}
{{- $cluster := empty .namespace -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .account }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "focus.labels" (list .root .component) | nindent 4 }}
  annotations:
    {{- include "focus.hook" (list .event -10) | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "ClusterRole" "Role" $cluster }}
metadata:
  name: {{ .account }}{{ if $cluster }}-{{ .root.Release.Namespace }}{{ end }}
  {{- if not $cluster }}
  namespace: {{ .namespace }}
  {{- end }}
  labels:
    {{- include "focus.labels" (list .root .component) | nindent 4 }}
  annotations:
    {{- include "focus.hook" (list .event -10) | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "ClusterRoleBinding" "RoleBinding" $cluster }}
metadata:
  name: {{ .account }}{{ if $cluster }}-{{ .root.Release.Namespace }}{{ end }}
  {{- if not $cluster }}
  namespace: {{ .namespace }}
  {{- end }}
  labels:
    {{- include "focus.labels" (list .root .component) | nindent 4 }}
  annotations:
    {{- include "focus.hook" (list .event -9) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ ternary "ClusterRole" "Role" $cluster }}
  name: {{ .account }}{{ if $cluster }}-{{ .root.Release.Namespace }}{{ end }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}
