# The demo models of this checkout, linked into the program as embedded://NAME.
file(GLOB demo_models CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/engine/demo/*.gguf)
foreach(file IN LISTS demo_models)
  get_filename_component(symbol ${file} NAME_WE)
  string(REPLACE "-" "_" symbol ${symbol})
  inferd_embed(INFERD_DEMO ${symbol} ${file})
endforeach()
