{{- define "weft.labels" -}}
app.kubernetes.io/part-of: weft
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "weft.agent.selector" -}}
app.kubernetes.io/name: weft-agent
k8s-app: weft
{{- end }}

{{- define "weft.operator.selector" -}}
app.kubernetes.io/name: weft-operator
name: weft-operator
{{- end }}

{{- /* An image's reference; the argument is a list of the image's values and the chart's version. */ -}}
{{- define "weft.image" -}}
{{- $image := index . 0 -}}
{{- $version := index . 1 -}}
{{- if $image.override -}}
{{ $image.override }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $version }}
{{- if and $image.digest $image.useDigest -}}@{{ $image.digest }}{{- end -}}
{{- end -}}
{{- end }}

{{- /* What every node must be, whatever an affinity says: terms are alternatives, so it goes into each. */ -}}
{{- define "weft.node.expressions" -}}
- key: kubernetes.io/os
  operator: In
  values: [linux]
- key: kubernetes.io/arch
  operator: In
  values: [amd64, arm64]
- key: eks.amazonaws.com/compute-type
  operator: NotIn
  values: [fargate]
{{- end }}

{{- define "weft.affinity" -}}
{{- $affinity := deepCopy (. | default dict) -}}
{{- $node := $affinity.nodeAffinity | default dict -}}
{{- $required := $node.requiredDuringSchedulingIgnoredDuringExecution | default dict -}}
{{- $always := include "weft.node.expressions" . | fromYamlArray -}}
{{- $terms := list -}}
{{- range ($required.nodeSelectorTerms | default (list dict)) -}}
{{- $term := deepCopy . -}}
{{- $_ := set $term "matchExpressions" (concat ($term.matchExpressions | default list) $always) -}}
{{- $terms = append $terms $term -}}
{{- end -}}
{{- $_ := set $required "nodeSelectorTerms" $terms -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" $required -}}
{{- $_ := set $affinity "nodeAffinity" $node -}}
{{- toYaml $affinity -}}
{{- end }}

{{- define "weft.operator.affinity" -}}
{{- $affinity := deepCopy (.Values.operator.affinity | default dict) -}}
{{- if not (hasKey $affinity "podAntiAffinity") -}}
{{- $selector := include "weft.operator.selector" . | fromYaml -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $selector) -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- end -}}
{{- include "weft.affinity" $affinity -}}
{{- end }}

{{- /* Who serves services, also in the spelling of older charts. */ -}}
{{- define "weft.replaces" -}}
{{- $replaces := has (toString .Values.kubeProxyReplacement) (list "true" "strict") -}}
{{- range $kind := list "nodePort" "hostPort" "externalIPs" -}}
{{- if and (not $replaces) (eq (toString (dig $kind "enabled" false $.Values.AsMap)) "true") -}}
{{- fail (printf "%s.enabled asks for one kind of service beside kube-proxy, which this version doesn't have; leave it out, or set kubeProxyReplacement=true, which has every kind" $kind) -}}
{{- end -}}
{{- end -}}
{{- $replaces -}}
{{- end }}

{{- define "weft.apiserver.env" -}}
{{- if and (eq (include "weft.replaces" .) "true") (not .Values.k8sServiceHost) -}}
{{- fail "kubeProxyReplacement=true needs k8sServiceHost, the API server's name (aws eks describe-cluster --query cluster.endpoint, without https://): weft's own pods can't reach it by a service that weft is to serve" -}}
{{- end }}
{{- with .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.k8sServicePort .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.k8sServicePort | default "443" | quote }}
{{- end }}
{{- end }}

{{- /* aws.region unless operator.extraEnv already says it: a doubled name would be refused by server-side apply. */ -}}
{{- define "weft.operator.env" -}}
{{- $env := .Values.operator.extraEnv | default list -}}
{{- $names := list -}}
{{- range $env }}{{ $names = append $names .name }}{{ end -}}
{{- if and .Values.aws.region (not (has "AWS_REGION" $names)) -}}
{{- $env = append $env (dict "name" "AWS_REGION" "value" .Values.aws.region) -}}
{{- end -}}
{{- if $env }}{{ toYaml $env }}{{ end -}}
{{- end }}

{{- /* The document of internal/config, only with keys that it knows. */ -}}
{{- define "weft.config" -}}
{{- $v := .Values -}}
{{- $masquerade := $v.egressMasqueradeInterfaces | default list -}}
{{- if kindIs "string" $masquerade -}}
{{- $masquerade = regexSplit "[, ]+" (trim $masquerade) -1 -}}
{{- end -}}
cluster:
  name: {{ required "cluster.name is empty: identities are made of it, so every cluster needs its own; set it with --set cluster.name=NAME" $v.cluster.name | quote }}
  id: {{ $v.cluster.id | int }}
ipam:
  mode: {{ $v.ipam.mode | quote }}
  {{- with $v.ipam.nodeSpec }}
  {{- if not (kindIs "invalid" .ipamMinAllocate) }}
  minAllocate: {{ .ipamMinAllocate | int }}
  {{- end }}
  {{- if not (kindIs "invalid" .ipamPreAllocate) }}
  preAllocate: {{ .ipamPreAllocate | int }}
  {{- end }}
  {{- if not (kindIs "invalid" .ipamMaxAllocate) }}
  maxAllocate: {{ .ipamMaxAllocate | int }}
  {{- end }}
  {{- end }}
eni:
  {{- with $v.eni.nodeSpec }}
  {{- if not (kindIs "invalid" .firstInterfaceIndex) }}
  firstInterfaceIndex: {{ .firstInterfaceIndex | int }}
  {{- end }}
  {{- if not (kindIs "invalid" .deleteOnTermination) }}
  deleteOnTermination: {{ .deleteOnTermination }}
  {{- end }}
  {{- end }}
  {{- with $v.eni.gcInterval }}
  gcInterval: {{ . | quote }}
  {{- end }}
  eniTags:
    {{- range $key, $value := $v.eni.eniTags }}
    {{ $key | quote }}: {{ $value | toString | quote }}
    {{- else }} {}
    {{- end }}
cni:
  confPath: {{ $v.cni.confPath | quote }}
  binPath: {{ $v.cni.binPath | quote }}
routingMode: {{ $v.routingMode | quote }}
MTU: {{ $v.MTU | int }}
enableIPv4Masquerade: {{ $v.enableIPv4Masquerade }}
ipv4NativeRoutingCIDR: {{ $v.ipv4NativeRoutingCIDR | quote }}
egressMasqueradeInterfaces: {{ $masquerade | toJson }}
bpf:
  masquerade: {{ ne (toString $v.bpf.masquerade) "false" }}
  masqueradePorts: {{ $v.bpf.masqueradePorts | toString | quote }}
  {{- if not (kindIs "invalid" $v.bpf.mapDynamicSizeRatio) }}
  mapDynamicSizeRatio: {{ $v.bpf.mapDynamicSizeRatio | float64 }}
  {{- end }}
  programStatistics: {{ $v.bpf.programStatistics }}
  datapathMode: {{ $v.bpf.datapathMode | quote }}
  lbExternalClusterIP: {{ $v.bpf.lbExternalClusterIP }}
  {{- if not (kindIs "invalid" $v.bpf.ctTcpMax) }}
  ctTcpMax: {{ $v.bpf.ctTcpMax | int }}
  {{- end }}
  {{- if not (kindIs "invalid" $v.bpf.ctAnyMax) }}
  ctAnyMax: {{ $v.bpf.ctAnyMax | int }}
  {{- end }}
events:
  {{- if not (kindIs "invalid" $v.bpf.events.default.rateLimit) }}
  perSecond: {{ $v.bpf.events.default.rateLimit | int }}
  {{- end }}
  {{- if not (kindIs "invalid" $v.bpf.eventRingSize) }}
  ringBytes: {{ $v.bpf.eventRingSize | int }}
  {{- end }}
  {{- if not (kindIs "invalid" $v.hubble.eventBufferCapacity) }}
  keep: {{ $v.hubble.eventBufferCapacity | int }}
  {{- end }}
kubeProxyReplacement: {{ include "weft.replaces" . }}
loadBalancer:
  {{- with $v.loadBalancer.algorithm }}
  algorithm: {{ . | quote }}
  {{- end }}
  serviceTopology: {{ $v.loadBalancer.serviceTopology }}
{{- if not (kindIs "invalid" $v.maglev.tableSize) }}
maglev:
  tableSize: {{ $v.maglev.tableSize | int }}
{{- end }}
nodePort:
  {{- with $v.nodePort.range }}
  range: {{ . | quote }}
  {{- end }}
  {{- with $v.nodePort.addresses }}
  addresses: {{ toJson . }}
  {{- end }}
  bindProtection: {{ $v.nodePort.bindProtection }}
socketLB:
  hostNamespaceOnly: {{ eq (toString $v.socketLB.hostNamespaceOnly) "true" }}
serviceNoBackendResponse: {{ $v.serviceNoBackendResponse | quote }}
bandwidthManager:
  enabled: {{ $v.bandwidthManager.enabled }}
ipMasqAgent:
  enabled: {{ $v.ipMasqAgent.enabled }}
podMetadataAccess: {{ $v.podMetadataAccess }}
healthChecking: {{ $v.healthChecking }}
healthCheckICMPFailureThreshold: {{ $v.healthCheckICMPFailureThreshold | int }}
nodeHealth:
  interval: {{ $v.nodeHealth.interval | quote }}
  timeout: {{ $v.nodeHealth.timeout | quote }}
  sample: {{ $v.nodeHealth.sample | int }}
{{- with $v.extraConfig }}
extraConfig:
  {{- range $option, $value := . }}
  {{- if not (kindIs "invalid" $value) }}
  {{ $option | quote }}: {{ $value | toString | quote }}
  {{- end }}
  {{- end }}
{{- end }}
agentNotReadyTaintKey: {{ $v.agentNotReadyTaintKey | quote }}
removeNodeTaints: {{ $v.operator.removeNodeTaints }}
syncInterval: {{ $v.operator.syncInterval | quote }}
logLevel: {{ ternary "debug" "info" (eq (toString $v.debug.enabled) "true") }}
{{- end }}
