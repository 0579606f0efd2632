# The demo models that are in this checkout, linked into the program as embedded://demo-chat and
# embedded://demo-chat-weak.
foreach(name demo-chat demo-chat-weak)
  string(REPLACE "-" "_" symbol ${name})
  if(EXISTS ${CMAKE_SOURCE_DIR}/engine/demo/${name}.gguf)
    inferd_embed(INFERD_DEMO ${symbol} ${CMAKE_SOURCE_DIR}/engine/demo/${name}.gguf)
  endif()
endforeach()
