package clusterconfig

// known is a field of eksctl's schema that has no meaning in the lab: it is accepted and not looked at.
type known = any

// document is eksctl's ClusterConfig v1alpha5: every field that eksctl knows, so that one that it doesn't
// know is an error here too.
type document struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`

	KubernetesNetworkConfig networkConfig `json:"kubernetesNetworkConfig"`
	IAM                     iam           `json:"iam"`
	VPC                     vpc           `json:"vpc"`
	Addons                  []addon       `json:"addons"`
	AvailabilityZones       []string      `json:"availabilityZones"`
	ManagedNodeGroups       []nodeGroup   `json:"managedNodeGroups"`
	NodeGroups              []nodeGroup   `json:"nodeGroups"`
	FargateProfiles         []known       `json:"fargateProfiles"`
	AutoModeConfig          autoMode      `json:"autoModeConfig"`
	PrivateCluster          privateConf   `json:"privateCluster"`

	AddonsConfig              addonsConfig `json:"addonsConfig"`
	IdentityProviders         known        `json:"identityProviders"`
	LocalZones                known        `json:"localZones"`
	CloudWatch                known        `json:"cloudWatch"`
	SecretsEncryption         known        `json:"secretsEncryption"`
	GitOps                    known        `json:"gitops"`
	Karpenter                 known        `json:"karpenter"`
	AccessConfig              known        `json:"accessConfig"`
	IAMIdentityMappings       known        `json:"iamIdentityMappings"`
	Outpost                   known        `json:"outpost"`
	RemoteNetworkConfig       known        `json:"remoteNetworkConfig"`
	UpgradePolicy             known        `json:"upgradePolicy"`
	ZonalShiftConfig          known        `json:"zonalShiftConfig"`
	DeletionProtection        known        `json:"deletionProtection"`
	ControlPlaneScalingConfig known        `json:"controlPlaneScalingConfig"`
	Capabilities              known        `json:"capabilities"`
	CloudWatchAlarms          known        `json:"cloudWatchAlarms"`
}

type metadata struct {
	Name               string            `json:"name"`
	Region             string            `json:"region"`
	Version            string            `json:"version"`
	Tags               map[string]string `json:"tags"`
	ForceUpdateVersion known             `json:"forceUpdateVersion"`
	Annotations        known             `json:"annotations"`
	AccountID          known             `json:"accountID"`
}

type networkConfig struct {
	IPFamily        string `json:"ipFamily"`
	ServiceIPv4CIDR string `json:"serviceIPv4CIDR"`
	ServiceIPv6CIDR known  `json:"serviceIPv6CIDR"`
}

type iam struct {
	WithOIDC                              *bool `json:"withOIDC"`
	ServiceAccounts                       known `json:"serviceAccounts"`
	PodIdentityAssociations               known `json:"podIdentityAssociations"`
	AutoCreatePodIdentityAssociations     known `json:"autoCreatePodIdentityAssociations"`
	ServiceRoleARN                        known `json:"serviceRoleARN"`
	ServiceRolePermissionsBoundary        known `json:"serviceRolePermissionsBoundary"`
	FargatePodExecutionRoleARN            known `json:"fargatePodExecutionRoleARN"`
	FargatePodExecutionRolePermissionsBnd known `json:"fargatePodExecutionRolePermissionsBoundary"`
	VPCResourceControllerPolicy           known `json:"vpcResourceControllerPolicy"`
}

type vpc struct {
	CIDR                         string `json:"cidr"`
	ID                           string `json:"id"`
	Subnets                      known  `json:"subnets"`
	NAT                          known  `json:"nat"`
	ClusterEndpoints             known  `json:"clusterEndpoints"`
	SecurityGroup                known  `json:"securityGroup"`
	SharedNodeSecurityGroup      known  `json:"sharedNodeSecurityGroup"`
	ManageSharedNodeGroupRules   known  `json:"manageSharedNodeSecurityGroupRules"`
	AutoAllocateIPv6             known  `json:"autoAllocateIPv6"`
	IPv6Cidr                     known  `json:"ipv6Cidr"`
	IPv6Pool                     known  `json:"ipv6Pool"`
	ExtraCIDRs                   known  `json:"extraCIDRs"`
	ExtraIPv6CIDRs               known  `json:"extraIPv6CIDRs"`
	PublicAccessCIDRs            known  `json:"publicAccessCIDRs"`
	HostnameType                 known  `json:"hostnameType"`
	ControlPlaneSubnetIDs        known  `json:"controlPlaneSubnetIDs"`
	ControlPlaneSecurityGroupIDs known  `json:"controlPlaneSecurityGroupIDs"`
	ControlPlaneEgressMode       known  `json:"controlPlaneEgressMode"`
}

type addon struct {
	Name                           string `json:"name"`
	Version                        string `json:"version"`
	ServiceAccountRoleARN          known  `json:"serviceAccountRoleARN"`
	AttachPolicyARNs               known  `json:"attachPolicyARNs"`
	AttachPolicy                   known  `json:"attachPolicy"`
	PermissionsBoundary            known  `json:"permissionsBoundary"`
	WellKnownPolicies              known  `json:"wellKnownPolicies"`
	Tags                           known  `json:"tags"`
	ResolveConflicts               string `json:"resolveConflicts"`
	PodIdentityAssociations        known  `json:"podIdentityAssociations"`
	UseDefaultPodIdentityAssoc     known  `json:"useDefaultPodIdentityAssociations"`
	CreateDefaultPodIdentityAssocs known  `json:"createDefaultPodIdentityAssociations"`
	ConfigurationValues            string `json:"configurationValues"`
	Publishers                     known  `json:"publishers"`
	Types                          known  `json:"types"`
	Owners                         known  `json:"owners"`
	NamespaceConfig                known  `json:"namespaceConfig"`
	Force                          known  `json:"force"`
}

type addonsConfig struct {
	AutoApplyPodIdentityAssociations known `json:"autoApplyPodIdentityAssociations"`
	DisableDefaultAddons             bool  `json:"disableDefaultAddons"`
	DisableEBSCSIDriver              known `json:"disableEBSCSIDriver"`
}

type autoMode struct {
	Enabled                bool  `json:"enabled"`
	NodeRoleARN            known `json:"nodeRoleARN"`
	NodePools              known `json:"nodePools"`
	PermissionsBoundaryARN known `json:"permissionsBoundaryARN"`
}

type privateConf struct {
	Enabled                      bool  `json:"enabled"`
	SkipEndpointCreation         known `json:"skipEndpointCreation"`
	AdditionalEndpointServices   known `json:"additionalEndpointServices"`
	SkipOutpostEndpointCreation  known `json:"skipOutpostEndpointCreation"`
	SkipEndpointCreationForAddon known `json:"skipEndpointCreationForAddons"`
}

type nodeGroup struct {
	Name              string            `json:"name"`
	InstanceType      string            `json:"instanceType"`
	InstanceTypes     []string          `json:"instanceTypes"`
	DesiredCapacity   *int              `json:"desiredCapacity"`
	MinSize           *int              `json:"minSize"`
	MaxSize           *int              `json:"maxSize"`
	PrivateNetworking bool              `json:"privateNetworking"`
	AvailabilityZones []string          `json:"availabilityZones"`
	Labels            map[string]string `json:"labels"`
	Taints            taints            `json:"taints"`
	Tags              map[string]string `json:"tags"`
	MaxPodsPerNode    int               `json:"maxPodsPerNode"`
	DisablePodIMDS    bool              `json:"disablePodIMDS"`
	Spot              bool              `json:"spot"`

	AMI                       known `json:"ami"`
	AMIFamily                 known `json:"amiFamily"`
	AdditionalEncryptedVolume known `json:"additionalEncryptedVolume"`
	AdditionalVolumes         known `json:"additionalVolumes"`
	ASGMetricsCollection      known `json:"asgMetricsCollection"`
	ASGSuspendProcesses       known `json:"asgSuspendProcesses"`
	Bottlerocket              known `json:"bottlerocket"`
	CapacityReservation       known `json:"capacityReservation"`
	ClassicLoadBalancerNames  known `json:"classicLoadBalancerNames"`
	ClusterDNS                known `json:"clusterDNS"`
	ContainerRuntime          known `json:"containerRuntime"`
	CPUCredits                known `json:"cpuCredits"`
	DisableIMDSv1             known `json:"disableIMDSv1"`
	EBSOptimized              known `json:"ebsOptimized"`
	EFAEnabled                known `json:"efaEnabled"`
	EnableDetailedMonitoring  known `json:"enableDetailedMonitoring"`
	IAM                       known `json:"iam"`
	InstanceMarketOptions     known `json:"instanceMarketOptions"`
	InstanceName              known `json:"instanceName"`
	InstancePrefix            known `json:"instancePrefix"`
	InstanceSelector          known `json:"instanceSelector"`
	InstancesDistribution     known `json:"instancesDistribution"`
	KubeletExtraConfig        known `json:"kubeletExtraConfig"`
	LaunchTemplate            known `json:"launchTemplate"`
	LocalZones                known `json:"localZones"`
	MaxInstanceLifetime       known `json:"maxInstanceLifetime"`
	NodeRepairConfig          known `json:"nodeRepairConfig"`
	OutpostARN                known `json:"outpostARN"`
	OverrideBootstrapCommand  known `json:"overrideBootstrapCommand"`
	Placement                 known `json:"placement"`
	PreBootstrapCommands      known `json:"preBootstrapCommands"`
	PropagateASGTags          known `json:"propagateASGTags"`
	ReleaseVersion            known `json:"releaseVersion"`
	SecurityGroups            known `json:"securityGroups"`
	SSH                       known `json:"ssh"`
	Subnets                   known `json:"subnets"`
	TargetGroupARNs           known `json:"targetGroupARNs"`
	UpdateConfig              known `json:"updateConfig"`
	VolumeEncrypted           known `json:"volumeEncrypted"`
	VolumeIOPS                known `json:"volumeIOPS"`
	VolumeKmsKeyID            known `json:"volumeKmsKeyID"`
	VolumeName                known `json:"volumeName"`
	VolumeSize                known `json:"volumeSize"`
	VolumeThroughput          known `json:"volumeThroughput"`
	VolumeType                known `json:"volumeType"`
	WarmPool                  known `json:"warmPool"`
}
