{{/* The first part of every name. */}}
{{- define "focus.fullname" -}}
{{- default (trimSuffix "-operator" .Release.Name) .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The namespace of the jobs. */}}
{{- define "focus.jobNamespace" -}}
{{- default .Release.Namespace .Values.jobNamespace -}}
{{- end -}}

{{/* Labels by which a component's pods are found: (list $ "operator") */}}
{{- define "focus.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of a component: (list $ "operator") */}}
{{- define "focus.labels" -}}
{{- $root := index . 0 -}}
{{ include "focus.selector" . }}
app.kubernetes.io/part-of: focus
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of a hook: (list "post-install" 0) */}}
{{- define "focus.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* An image: (list $ .Values.image) */}}
{{- define "focus.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $all := $root.Values.image -}}
{{- $own := not (empty $image.repository) -}}
{{- $repository := default $all.repository $image.repository -}}
{{- $digest := $image.digest | default (ternary "" $all.digest $own) -}}
{{- $tag := $image.tag | default (ternary "" $all.tag $own) | default $root.Chart.AppVersion -}}
{{- if $digest -}}{{ $repository }}@{{ $digest }}{{- else -}}{{ $repository }}:{{ $tag }}{{- end -}}
{{- end -}}

{{/* The service account of a component: (list $ "operator") */}}
{{- define "focus.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $own := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $own.create -}}
{{- default (printf "%s-%s" (include "focus.fullname" $root) (index . 1)) $own.name -}}
{{- else -}}
{{- default "default" $own.name -}}
{{- end -}}
{{- end -}}

{{/* The service account of the analyzers. */}}
{{- define "focus.analyzerAccount" -}}
{{- $own := .Values.pool.serviceAccount -}}
{{- default (ternary (printf "%s-analyzer" (include "focus.fullname" .)) "default" $own.create) $own.name -}}
{{- end -}}

{{/* A subject of a binding: (list $ "operator") */}}
{{- define "focus.subject" -}}
- kind: ServiceAccount
  name: {{ include "focus.serviceAccount" . }}
  namespace: {{ (index . 0).Release.Namespace }}
{{- end -}}

{{- define "focus.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the Pod Security level "restricted" asks of a pod, and more. */}}
{{- define "focus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What it asks of a container, and more. */}}
{{- define "focus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where pods go: (list $ "operator") */}}
{{- define "focus.placement" -}}
{{- include "focus.placed" (index (index . 0).Values (index . 1)) -}}
{{- end -}}

{{/* The same for the pods of hooks: where the operator goes, unless they are told otherwise. */}}
{{- define "focus.hookPlacement" -}}
{{- $place := dict -}}
{{- range $key := list "priorityClassName" "nodeSelector" "tolerations" "affinity" -}}
{{- $_ := set $place $key (default (index $.Values.operator $key) (index $.Values.hooks $key)) -}}
{{- end -}}
{{- include "focus.placed" $place -}}
{{- end -}}

{{- define "focus.placed" -}}
{{- $own := . -}}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "focus.spread" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- with $root.Values.topologySpread }}
{{- if .enabled }}
topologySpreadConstraints:
{{- $when := .whenUnsatisfiable }}
{{- range .topologyKeys }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $when }}
    labelSelector:
      matchLabels:
        {{- include "focus.selector" (list $root $component) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where traces go, for a container that makes some. */}}
{{- define "focus.tracing.env" -}}
{{- with .Values.tracing -}}
{{- if .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .sampleRatio | toString | quote }}
{{- end }}
{{- end -}}
{{- end -}}
