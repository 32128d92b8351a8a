{{/* The volume with the recordings of historic views, for servers and analyzers. */}}

{{- define "focus.recordings.there" -}}
{{- with .Values.recordings -}}
{{- if and .existingClaim .volume -}}
{{- fail "recordings.existingClaim and recordings.volume are both set: there is one volume of recordings. Choose one" -}}
{{- end -}}
{{- if or .existingClaim .volume -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "focus.recordings.volumes" -}}
{{- if include "focus.recordings.there" . }}
{{- with .Values.recordings }}
- name: recordings
  {{- if .existingClaim }}
  persistentVolumeClaim: {claimName: {{ .existingClaim }}, readOnly: true}
  {{- else }}
  {{- toYaml .volume | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "focus.recordings.mounts" -}}
{{- if include "focus.recordings.there" . }}
- name: recordings
  mountPath: {{ .Values.recordings.mountPath }}
  {{- with .Values.recordings.subPath }}
  subPath: {{ . }}
  {{- end }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* The pool's source, which names the recordings unless it already does, or is a folder of them itself. */}}
{{- define "focus.recordings.source" -}}
{{- $source := .Values.pool.source -}}
{{- $folder := regexMatch "^file:///([^?]*/)?([?].*)?$" $source.uri -}}
{{- if and (include "focus.recordings.there" .) (not $source.recordings) (not $folder) -}}
{{- $source = merge (dict "recordings" (printf "file://%s/" .Values.recordings.mountPath)) $source -}}
{{- end -}}
{{- toYaml $source -}}
{{- end -}}
