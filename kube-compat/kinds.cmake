# The kinds as data, inside the program: kind documents (CRD form) and type tables.
foreach(name core apps workloads rbac serving apiextensions metrics)
  inferd_embed(INFERD_KINDS kinds_${name}_yaml ${CMAKE_SOURCE_DIR}/kube-compat/kinds/${name}.yaml)
endforeach()
foreach(name kubernetes workloads serving apiextensions metrics)
  inferd_embed(INFERD_KINDS kinds_${name}_types ${CMAKE_SOURCE_DIR}/kube-compat/kinds/${name}.types)
endforeach()
inferd_embed(INFERD_KINDS kinds_descriptions ${CMAKE_SOURCE_DIR}/kube-compat/kinds/descriptions.text)
# The roles and bindings that every installation has (rbac_defaults.c).
inferd_embed(INFERD_KINDS rbac_defaults_yaml ${CMAKE_SOURCE_DIR}/kube-compat/rbac_defaults.yaml)
