{{/* The first AnalyzerPool. */}}
{{- define "focus.pool" -}}
{{- $own := .Values.pool -}}
apiVersion: focus-operator.io/v1alpha1
kind: AnalyzerPool
metadata:
  name: {{ $own.name }}
  namespace: {{ include "focus.jobNamespace" . }}
  labels:
    {{- include "focus.labels" (list . "analyzer") | nindent 4 }}
spec:
  source:
    {{- include "focus.recordings.source" . | nindent 4 }}
  template:
    {{- if or $own.podLabels $own.podAnnotations }}
    metadata:
      {{- with $own.podLabels }}
      labels:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    spec:
      serviceAccountName: {{ include "focus.analyzerAccount" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 2
      {{- with include "focus.pullSecrets" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "focus.placement" (list . "pool") | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      securityContext:
        {{- include "focus.podSecurity" . | nindent 8 }}
      containers:
        - name: analyzer
          image: {{ include "focus.image" (list . $own.image) }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            {{- toYaml $own.args | nindent 12 }}
          env:
            {{- include "focus.broker.env" . | trim | nindent 12 }}
            {{- with include "focus.tracing.env" . | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $own.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: health
              containerPort: 8082
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 1
          resources:
            {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            {{- include "focus.containerSecurity" . | nindent 12 }}
          {{- $mounts := concat (include "focus.broker.mounts" . | fromYamlArray) (include "focus.recordings.mounts" . | fromYamlArray) $own.extraVolumeMounts }}
          {{- with $mounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- $volumes := concat (include "focus.broker.volumes" . | fromYamlArray) (include "focus.recordings.volumes" . | fromYamlArray) $own.extraVolumes }}
      {{- with $volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
