{{/* The rights of each part: what its code asks of the API server, and nothing more. */}}

{{- define "focus.rules.operator" -}}
- apiGroups: [focus-operator.io]
  resources: [focusjobs]
  verbs: [list, watch, patch, delete]
- apiGroups: [focus-operator.io]
  resources: [focusjobs/status]
  verbs: [update]
# Asked for by the admission plugin OwnerReferencesPermissionEnforcement when pods are given their owner.
- apiGroups: [focus-operator.io]
  resources: [focusjobs/finalizers]
  verbs: [update]
- apiGroups: [focus-operator.io]
  resources: [analyzerpools]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- define "focus.rules.server" -}}
- apiGroups: [focus-operator.io]
  resources: [focusjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [focus-operator.io]
  resources: [analyzerpools]
  verbs: [list, watch]
# Each replica tells of itself in one Lease, and a window is claimed by a Lease of its own; both are made when needed.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [focus-server-replicas]
  verbs: [list, watch, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames:
    {{- range until (int .Values.server.windows) }}
    - focus-window-{{ . }}
    {{- end }}
  verbs: [get, update]
{{- end -}}

{{- define "focus.rules.pool" -}}
- apiGroups: [focus-operator.io]
  resources: [analyzerpools]
  resourceNames: [{{ .Values.pool.name }}]
  verbs: [patch]
- apiGroups: [focus-operator.io]
  resources: [analyzerpools]
  verbs: [create]
{{- end -}}

{{- define "focus.rules.clean" -}}
- apiGroups: [focus-operator.io]
  resources: [focusjobs]
  verbs: [list, patch, delete]
{{- end -}}

{{- define "focus.rules.test" -}}
- apiGroups: [focus-operator.io]
  resources: [focusjobs]
  verbs: [list, watch, create, delete]
# It looks whether its run left any.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end -}}
