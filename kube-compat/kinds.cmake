# The kinds as data, inside the program: kind documents (CRD form) and type tables.
foreach(name core apps workloads serving apiextensions)
  inferd_embed(INFERD_KINDS kinds_${name}_yaml ${CMAKE_SOURCE_DIR}/kube-compat/kinds/${name}.yaml)
endforeach()
foreach(name kubernetes workloads serving apiextensions)
  inferd_embed(INFERD_KINDS kinds_${name}_types ${CMAKE_SOURCE_DIR}/kube-compat/kinds/${name}.types)
endforeach()
