{{/* The name of everything of this release, at most 40 characters: a process follows it. */}}
{{- define "nextwatch.name" -}}
{{- if contains "nextwatch" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-nextwatch" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which services, budgets and policies find the pods; they never change. */}}
{{- define "nextwatch.selector" -}}
app.kubernetes.io/name: nextwatch
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nextwatch.labels" -}}
{{ include "nextwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Call with (dict "image" VALUES "root" $). */}}
{{- define "nextwatch.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "nextwatch.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "nextwatch.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "nextwatch.bundlesClaim" -}}
{{- .Values.bundles.existingClaim | default (printf "%s-bundles" (include "nextwatch.name" .)) -}}
{{- end -}}

{{/* Variables of every process: the connections, and the settings of all. */}}
{{- define "nextwatch.env" -}}
{{- $kafka := .Values.kafka -}}
- name: NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS
  value: {{ $kafka.bootstrapServers | quote }}
{{- with $kafka.topicPrefix }}
- name: NEXTWATCH_KAFKA_TOPIC_PREFIX
  value: {{ . | quote }}
{{- end }}
- name: NEXTWATCH_KAFKA_USER_PARTITIONS
  value: {{ $kafka.userPartitions | int | quote }}
- name: NEXTWATCH_KAFKA_REPLICATION_FACTOR
  value: {{ $kafka.replicationFactor | int | quote }}
- name: NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS
  value: {{ $kafka.sessionTimeoutMs | int | quote }}
- name: NEXTWATCH_KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol | quote }}
{{- if contains "SASL" $kafka.securityProtocol }}
- name: NEXTWATCH_KAFKA_SASL_MECHANISM
  value: {{ required "kafka.saslMechanism is required by this kafka.securityProtocol" $kafka.saslMechanism | quote }}
{{- $secret := required "kafka.saslSecret.name is required by this kafka.securityProtocol" $kafka.saslSecret.name }}
- name: NEXTWATCH_KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef: { name: {{ $secret | quote }}, key: {{ $kafka.saslSecret.usernameKey | quote }} }
- name: NEXTWATCH_KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef: { name: {{ $secret | quote }}, key: {{ $kafka.saslSecret.passwordKey | quote }} }
{{- end }}
{{- if $kafka.caSecret.name }}
- name: NEXTWATCH_KAFKA_SSL_CA_LOCATION
  value: /etc/nextwatch/ca/ca.crt
{{- end }}
{{- if $kafka.clientCertificateSecret.name }}
- name: NEXTWATCH_KAFKA_SSL_CERTIFICATE_LOCATION
  value: /etc/nextwatch/client/tls.crt
- name: NEXTWATCH_KAFKA_SSL_KEY_LOCATION
  value: /etc/nextwatch/client/tls.key
{{- end }}
- name: NEXTWATCH_QDRANT_URL
  value: {{ .Values.qdrant.url | quote }}
{{- if .Values.qdrant.apiKeySecret.name }}
- name: NEXTWATCH_QDRANT_API_KEY
  valueFrom:
    secretKeyRef: { name: {{ .Values.qdrant.apiKeySecret.name | quote }}, key: {{ .Values.qdrant.apiKeySecret.key | quote }} }
{{- end }}
- name: NEXTWATCH_PROCESS_BUNDLE_URL
  value: {{ .Values.bundles.url | default "file:///state/bundles" | quote }}
- name: NEXTWATCH_PROCESS_READY_FILE
  value: /tmp/ready
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Where a process serves /metrics, /healthz and /readyz. Call with (dict "root" $ "group" NAME). */}}
{{- define "nextwatch.httpEnv" -}}
- name: NEXTWATCH_{{ .group }}_HTTP_HOST
  value: {{ .root.Values.httpHost | quote }}
- name: NEXTWATCH_{{ .group }}_HTTP_PORT
  value: "8080"
{{- end -}}

{{/* Of /readyz the kubelet learns whether an update may go on; /healthz says whether to restart. Call
     with the name of the port. */}}
{{- define "nextwatch.probes" -}}
ports:
  - { name: {{ . }}, containerPort: 8080 }
startupProbe:
  httpGet: { path: /healthz, port: {{ . }} }
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 90
livenessProbe:
  httpGet: { path: /healthz, port: {{ . }} }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: {{ . }} }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Call with (dict "root" $ "process" VALUES). Service links off: they are variables that begin with
     NEXTWATCH_ and that no process knows, and an unknown one stops the start. */}}
{{- define "nextwatch.pod" -}}
serviceAccountName: {{ include "nextwatch.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .process.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .process.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .process.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "nextwatch.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{/* Call with (dict "root" $ "bundles" "read" or "write" or ""). */}}
{{- define "nextwatch.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if and .bundles (not .root.Values.bundles.url) }}
- { name: bundles, mountPath: /state/bundles, readOnly: {{ eq .bundles "read" }} }
{{- end }}
{{- if .root.Values.kafka.caSecret.name }}
- { name: ca, mountPath: /etc/nextwatch/ca, readOnly: true }
{{- end }}
{{- if .root.Values.kafka.clientCertificateSecret.name }}
- { name: client, mountPath: /etc/nextwatch/client, readOnly: true }
{{- end }}
{{- end -}}

{{- define "nextwatch.volumes" -}}
- name: tmp
  emptyDir: { medium: Memory, sizeLimit: 256Mi }
{{- if and .bundles (not .root.Values.bundles.url) }}
- name: bundles
  persistentVolumeClaim: { claimName: {{ include "nextwatch.bundlesClaim" .root }} }
{{- end }}
{{- with .root.Values.kafka.caSecret }}
{{- if .name }}
- name: ca
  secret:
    secretName: {{ .name | quote }}
    items: [{ key: {{ .key | quote }}, path: ca.crt }]
{{- end }}
{{- end }}
{{- with .root.Values.kafka.clientCertificateSecret }}
{{- if .name }}
- name: client
  secret:
    secretName: {{ .name | quote }}
    defaultMode: 0440
    items:
      - { key: {{ .certificateKey | quote }}, path: tls.crt }
      - { key: {{ .keyKey | quote }}, path: tls.key }
{{- end }}
{{- end }}
{{- end -}}

{{/* A claim of a pod's own. Call with (dict "name" NAME "storage" VALUES). */}}
{{- define "nextwatch.claim" -}}
- metadata: { name: {{ .name }} }
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storage.storageClassName }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources: { requests: { storage: {{ .storage.size | quote }} } }
{{- end -}}

{{/* The pod of a command of nextwatch that ends. Its service account is the namespace's own, since a
     hook runs before that of the release is there. Call with (dict "root" $ "command" LIST). */}}
{{- define "nextwatch.job" -}}
{{- $pod := include "nextwatch.pod" (dict "root" .root "process" dict) | fromYaml -}}
{{- $_ := set $pod "serviceAccountName" "default" -}}
{{ toYaml $pod }}
restartPolicy: Never
containers:
  - name: nextwatch
    image: {{ include "nextwatch.image" (dict "image" .root.Values.image "root" .root) | quote }}
    imagePullPolicy: {{ .root.Values.imagePullPolicy }}
    command: {{ toJson .command }}
    env:
      {{- include "nextwatch.env" .root | nindent 6 }}
    resources:
      requests: { cpu: 100m, memory: 128Mi }
      limits: { memory: 256Mi }
    {{- include "nextwatch.containerSecurity" . | nindent 4 }}
    volumeMounts:
      {{- include "nextwatch.mounts" (dict "root" .root "bundles" "") | nindent 6 }}
volumes:
  {{- include "nextwatch.volumes" (dict "root" .root "bundles" "") | nindent 2 }}
{{- end -}}
