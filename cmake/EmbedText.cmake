# schmidt_embed_text(OUT_VAR file ...): a C++ source that holds the files as
# string constants in namespace schmidt::embedded, named after the file without
# its ending. Remade when a file changes.
function(schmidt_embed_text out)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded_text.cpp)
  set(content "#include <string_view>\n\nnamespace schmidt::embedded {\n")
  foreach(file IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    string(APPEND content "extern const std::string_view ${name};\n")
    string(APPEND content "const std::string_view ${name} = R\"embedded(${text})embedded\";\n")
  endforeach()
  string(APPEND content "}  // namespace schmidt::embedded\n")
  file(CONFIGURE OUTPUT ${source} CONTENT "${content}" @ONLY)
  set(${out} ${source} PARENT_SCOPE)
endfunction()
